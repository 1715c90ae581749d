/* Set-user-ID root, as sudo is: whoever is not root may not signal it once it has become root in all respects. It ends
   by itself after UNKILLABLE_SECONDS. argv: ready mark */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc < 3 || setgid(0) || setuid(0))
        return 1;
    int ready = open(argv[1], O_WRONLY);
    if (ready < 0 || write(ready, argv[2], strlen(argv[2])) < 0 || write(ready, "\n", 1) < 0)
        return 2;
    close(ready);
    for (unsigned left = UNKILLABLE_SECONDS; left;)
        left = sleep(left);
    return 0;
}
