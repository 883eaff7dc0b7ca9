#include "libkoal/auth/read.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libkoal/base/mem.h"

enum kl_code kl_auth_read(int folder, const char *file, size_t most, char **bytes, size_t *size, struct stat *out,
                          struct kl_err *err)
{
    int         fd = openat(folder, file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat s;
    size_t      have = 0;
    ssize_t     n = 0;
    char       *at;

    if (fd < 0)
        return kl_fail(err, errno == ENOENT ? KL_ENOENT : KL_EIO, "%s: %s", file, strerror(errno));
    err->code = KL_OK;
    if (fstat(fd, &s) != 0 || !S_ISREG(s.st_mode))
        kl_fail(err, KL_EINVAL, "%s is no file", file);
    else if ((uint64_t)s.st_size > most)
        kl_fail(err, KL_ELIMIT, "%s is larger than %zu bytes", file, most);
    if (err->code != KL_OK) {
        close(fd);
        return err->code;
    }
    at = kl_new((size_t)s.st_size + 1);
    while (have < (size_t)s.st_size && (n = read(fd, at + have, (size_t)s.st_size - have)) > 0)
        have += (size_t)n;
    if (n < 0) {
        kl_fail(err, KL_EIO, "%s: %s", file, strerror(errno));
        close(fd);
        free(at);
        return err->code;
    }
    close(fd);
    *bytes = at;
    *size = have;
    if (out != NULL)
        *out = s;
    return KL_OK;
}
