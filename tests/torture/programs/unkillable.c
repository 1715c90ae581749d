/* Set-user-ID root, as sudo is: whoever is not root may not signal it once it has become root in all respects. It ends
   by itself after UNKILLABLE_SECONDS. argv: ready mark */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc < 3 || setgid(0) || setuid(0))
        return 1;
    char line[64]; /* said in one write, which nobody else's goes between: pipe(7), PIPE_BUF */
    int length = snprintf(line, sizeof line, "%s\n", argv[2]);
    int ready = open(argv[1], O_WRONLY);
    if (ready < 0 || write(ready, line, length) != length)
        return 2;
    close(ready);
    for (unsigned left = UNKILLABLE_SECONDS; left;)
        left = sleep(left);
    return 0;
}
