#ifndef KL_AUTH_READ_H
#define KL_AUTH_READ_H
/* Reading a small file whole: keys, and what the audit log consists of. */
#include <stddef.h>

#include "libkoal/base/err.h"

struct stat;
/* Malloc'ed, with a NUL behind; the caller frees. `folder`: as openat has it. `s`, or NULL, takes what fstat said.
 * KL_ENOENT; KL_EINVAL: it is no file; KL_ELIMIT: it has more than `most` bytes. A pipe does not make it wait. */
enum kl_code kl_auth_read(int folder, const char *file, size_t most, char **bytes, size_t *size, struct stat *s,
                          struct kl_err *err);
#endif
