/* Lists of keys out of files and commands. */
#include "libkoal/crypt/keys.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { COMMAND_MS = 60 * 1000 };

extern char **environ;

static int64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Until the end, or one byte more than a list may have. -1: errno says why. */
static ssize_t read_all(int fd, char *bytes, size_t room, int64_t until_ms)
{
    size_t size = 0;

    while (size < room) {
        struct pollfd p = { .fd = fd, .events = POLLIN };
        int64_t       left = until_ms - now_ms();
        ssize_t       n;

        if (left <= 0 || poll(&p, 1, (int)left) == 0) {
            errno = ETIMEDOUT;
            return -1;
        }
        n = read(fd, bytes + size, room - size);
        if (n < 0 && errno != EINTR)
            return -1;
        if (n == 0)
            break;
        size += n > 0 ? (size_t)n : 0;
    }
    return (ssize_t)size;
}

enum kl_code kl_keys_read(const char *file, struct kl_keys **keys, struct kl_err *err)
{
    char         bytes[KL_KEYS_TEXT_MAX + 1];
    int          fd = open(file, O_RDONLY | O_CLOEXEC);
    ssize_t      n = fd >= 0 ? read_all(fd, bytes, sizeof bytes, now_ms() + COMMAND_MS) : -1;
    int          why = errno;
    enum kl_code code;

    if (fd >= 0)
        close(fd);
    if (n < 0)
        return kl_fail(err, why == ENOENT ? KL_ENOENT : KL_EIO, "%s: %s", file, strerror(why));
    code = kl_keys_parse(kl_span(bytes, (size_t)n), keys, err);
    kl_wipe(bytes, sizeof bytes);
    return code == KL_OK ? KL_OK : kl_within(err, "%s", file);
}

static int start(const char *command, int out, pid_t *pid)
{
    char *const                argv[] = { "sh", "-c", (char *)command, NULL };
    posix_spawn_file_actions_t does;
    posix_spawnattr_t          is;
    sigset_t                   none;
    int                        failed;

    posix_spawn_file_actions_init(&does);
    posix_spawnattr_init(&is);
    posix_spawn_file_actions_addopen(&does, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&does, out, 1);
    /* A group of its own, so that what it starts can be ended, too; and signals, which no thread of ours takes. */
    sigemptyset(&none);
    posix_spawnattr_setsigmask(&is, &none);
    posix_spawnattr_setflags(&is, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK);
    failed = posix_spawn(pid, "/bin/sh", &does, &is, argv, environ);
    posix_spawnattr_destroy(&is);
    posix_spawn_file_actions_destroy(&does);
    return failed;
}

/* It may go on after it has closed its output: not for ever. */
static int end(pid_t pid, int64_t until_ms)
{
    int status = 0;

    while (waitpid(pid, &status, WNOHANG) == 0) {
        if (now_ms() >= until_ms)
            kill(-pid, SIGKILL);
        nanosleep(&(struct timespec){ .tv_nsec = 5 * 1000000 }, NULL);
    }
    return status;
}

enum kl_code kl_keys_run(const char *command, struct kl_keys **keys, struct kl_err *err)
{
    char         bytes[KL_KEYS_TEXT_MAX + 1];
    int          ends[2], failed, why, status;
    int64_t      until_ms = now_ms() + COMMAND_MS;
    pid_t        pid;
    ssize_t      n;
    enum kl_code code;

    if (pipe2(ends, O_CLOEXEC) != 0)
        return kl_fail(err, KL_EIO, "a pipe for the command: %s", strerror(errno));
    failed = start(command, ends[1], &pid);
    close(ends[1]);
    if (failed != 0) {
        close(ends[0]);
        return kl_fail(err, KL_EIO, "run /bin/sh for the command: %s", strerror(failed));
    }
    n = read_all(ends[0], bytes, sizeof bytes, until_ms);
    why = errno;
    close(ends[0]);
    if (n < 0 || (size_t)n == sizeof bytes)
        kill(-pid, SIGKILL);
    status = end(pid, until_ms);
    if (n < 0)
        code = kl_fail(err, KL_EIO, "the command: %s", strerror(why));
    else if ((size_t)n < sizeof bytes && (!WIFEXITED(status) || WEXITSTATUS(status) != 0))
        code = kl_fail(err, KL_EIO, "the command ended with %s %d", WIFEXITED(status) ? "status" : "signal",
                       WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
    else if ((code = kl_keys_parse(kl_span(bytes, (size_t)n), keys, err)) != KL_OK)
        kl_within(err, "what the command printed");
    kl_wipe(bytes, sizeof bytes);
    return code;
}
