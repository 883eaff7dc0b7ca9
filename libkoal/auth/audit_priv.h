#ifndef KL_AUDIT_PRIV_H
#define KL_AUDIT_PRIV_H
/* A record as it lies in its file: audit_line.c, pure. audit.c writes, audit_verify.c reads. */
#include "libkoal/auth/audit.h"
#include "libkoal/crypt/crypt.h"

enum { KL_AUDIT_HASH = 2 * KL_SHA256, KL_AUDIT_FILE_MOST = 256 << 20 };
#define KL_AUDIT_ZERO "0000000000000000000000000000000000000000000000000000000000000000"

struct kl_audit_record {
    uint64_t    n;
    int64_t     time_ms;                               /* since the epoch */
    const char *event, *key, *peer, *method, *path, *tenant, *words;
    unsigned    status;
};
/* The line with its LF; what is too long is cut. `hash` is that of the record before, and becomes its own. */
void kl_audit_line(const struct kl_audit_record *r, struct kl_span key, char hash[KL_AUDIT_HASH + 1],
                   struct kl_buf *out);
/* A line without its LF: its number and hash, where it fits the record before it (hash NULL: any). */
bool kl_audit_line_read(struct kl_span line, struct kl_span key, const char *prev, uint64_t *n,
                        char hash[KL_AUDIT_HASH + 1], char prev_out[KL_AUDIT_HASH + 1]);

/* "NAME-000001.audit"; 0: not one of them. */
unsigned kl_audit_file_number(const char *file, const char *name);
void     kl_audit_file_name(const char *name, unsigned number, char out[KL_AUDIT_NAME_MAX + 32]);
struct kl_audit_head { uint64_t n; char hash[KL_AUDIT_HASH + 1]; };
/* KL_ENOENT: there is none yet. */
enum kl_code kl_audit_head_read(int folder, const char *name, struct kl_audit_head *h, struct kl_err *err);
/* The numbers of the files that there are, ascending; malloc'ed. */
enum kl_code kl_audit_files(int folder, const char *name, unsigned **numbers, size_t *count, struct kl_err *err);
#endif
