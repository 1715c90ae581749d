/* The floor: what the kernel allows when nothing but posix_spawn(3) stands between the request and the program.
 *
 *     floor IN_FLIGHT COUNT PROGRAM [ARG...]
 *
 * Runs PROGRAM COUNT times, IN_FLIGHT at once, with the null device as stdin; captures stdout and stderr through pipes
 * to their ends, then reaps. No process group, no deadline, no limit, no environment of its own. Prints the seconds it
 * took, the CPU seconds of this process alone and the bytes captured, as one line of JSON.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CHUNK 65536 /* bytes read at once: what a pipe holds by default (pipe(7)) */

extern char **environ;

struct stream {
    char *data; /* kept from one command to the next, as a memory pool would */
    size_t size, room;
};

struct slot {
    pid_t pid; /* 0: free */
    struct stream streams[2];
};

static char **program;
static int null_fd;
static unsigned long long captured;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static double own_cpu(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void open_pipe(int ends[2]) {
#ifdef __linux__
    if (pipe2(ends, O_CLOEXEC) < 0)
        die("pipe2");
#else
    if (pipe(ends) < 0)
        die("pipe");
    fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    fcntl(ends[1], F_SETFD, FD_CLOEXEC);
#endif
}

static void start(struct slot *slot, struct pollfd *polled) {
    int out[2], err[2];
    posix_spawn_file_actions_t actions;

    open_pipe(out);
    open_pipe(err);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, null_fd, 0);
    posix_spawn_file_actions_adddup2(&actions, out[1], 1);
    posix_spawn_file_actions_adddup2(&actions, err[1], 2);
    if ((errno = posix_spawn(&slot->pid, program[0], &actions, NULL, program, environ)))
        die(program[0]);
    posix_spawn_file_actions_destroy(&actions);
    close(out[1]);
    close(err[1]);
    polled[0].fd = out[0];
    polled[1].fd = err[0];
    slot->streams[0].size = slot->streams[1].size = 0;
}

/* Read once; whether the stream has ended. */
static int take(struct stream *stream, int fd) {
    ssize_t got;

    if (stream->room - stream->size < CHUNK) {
        stream->room = stream->room * 2 + CHUNK;
        if (!(stream->data = realloc(stream->data, stream->room)))
            die("realloc");
    }
    got = read(fd, stream->data + stream->size, CHUNK);
    if (got < 0)
        die("read");
    stream->size += (size_t)got;
    return got == 0;
}

static void finish(struct slot *slot) {
    int status;

    if (waitpid(slot->pid, &status, 0) < 0)
        die("waitpid");
    if (status) {
        fprintf(stderr, "%s ended with wait status %d\n", program[0], status);
        exit(1);
    }
    captured += slot->streams[0].size + slot->streams[1].size;
    slot->pid = 0;
}

int main(int argc, char **argv) {
    if (argc < 4) {
        fprintf(stderr, "usage: floor IN_FLIGHT COUNT PROGRAM [ARG...]\n");
        return 2;
    }
    int in_flight = atoi(argv[1]);
    long count = atol(argv[2]), started = 0, done = 0;
    struct slot *slots = calloc((size_t)in_flight, sizeof *slots);
    struct pollfd *polled = calloc((size_t)in_flight * 2, sizeof *polled);

    program = argv + 3;
    null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (in_flight < 1 || !slots || !polled || null_fd < 0)
        die("floor");
    for (int i = 0; i < in_flight * 2; i++) {
        polled[i].fd = -1;
        polled[i].events = POLLIN;
    }
    double began = now();
    while (done < count) {
        for (int i = 0; i < in_flight && started < count; i++)
            if (!slots[i].pid) {
                start(&slots[i], &polled[2 * i]);
                started++;
            }
        if (poll(polled, (nfds_t)in_flight * 2, -1) < 0)
            die("poll");
        for (int i = 0; i < in_flight * 2; i++)
            if (polled[i].fd >= 0 && polled[i].revents && take(&slots[i / 2].streams[i % 2], polled[i].fd)) {
                close(polled[i].fd);
                polled[i].fd = -1;
                if (polled[i ^ 1].fd < 0) {
                    finish(&slots[i / 2]);
                    done++;
                }
            }
    }
    printf("{\"seconds\": %.6f, \"cpu\": %.6f, \"captured\": %llu}\n", now() - began, own_cpu(), captured);
    return 0;
}
