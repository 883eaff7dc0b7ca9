#ifndef KL_AUDIT_H
#define KL_AUDIT_H
/*
 * The audit log: one JSON object a line, in files NAME-000001.audit, NAME-000002.audit, ... of a folder.
 *
 *   {"n":17,"time":"2026-01-02T03:04:05.678Z","event":"order","key":"9f2c","peer":"10.0.0.7",
 *    "method":"POST","path":"/api/v1/koalemos/drain","tenant":"","status":0,"words":"",
 *    "prev":"<hash of record 16>","hash":"<64 hex digits>"}
 *
 * `hash` is the SHA-256 of all that stands before `,"hash":`, or its HMAC where there is a key; `prev`
 * is part of that. So a record cannot be changed, taken out or put in without every later one telling.
 * NAME.head says {n, hash} of the last record that is known to be on disk, so that a log which was cut
 * short is noticed. Whoever can write the folder can put back an older log together with its head; and
 * where there is no key, or he has it, make all of it anew: send the last hash, which is also in the
 * process's log at start, stop and every new file, elsewhere.
 *
 * Events: start, stop, order (before it is carried out; synced), done (how it ended), refused, dropped
 * (so many refusals that were more than AUDIT_REFUSALS a second), and broken (what was found at the start
 * does not fit: a record cut by a crash, or less than the head says).
 *
 * One process a name (a lock on NAME.head). Any thread may record; records are synced within
 * KL_AUDIT_SYNC_MS by a thread of its own, orders before `order` returns.
 */
#include <stdbool.h>
#include <stdint.h>

#include "libkoal/base/buf.h"
#include "libkoal/base/err.h"
#include "libkoal/base/log.h"
#include "libkoal/http/guard.h"

enum { KL_AUDIT_LINE_MAX = 8192, KL_AUDIT_SYNC_MS = 1000, KL_AUDIT_REFUSALS = 50, KL_AUDIT_NAME_MAX = 64 };
#define KL_AUDIT_FILE_BYTES ((int64_t)16 << 20)

struct kl_audit;
struct kl_audit_options {
    const char *folder, *name;                         /* the folder is made where it is missing */
    struct kl_span key;                                /* of the HMAC; empty: a plain digest. Copied */
    int64_t     file_bytes;                            /* a new file past this; 0: KL_AUDIT_FILE_BYTES */
    struct kl_log *log;
};
enum kl_code kl_audit_open(const struct kl_audit_options *o, struct kl_audit **audit, struct kl_err *err);
void         kl_audit_close(struct kl_audit *a);       /* records the stop; NULL is fine */

/* On disk when it returns KL_OK. */
enum kl_code kl_audit_order(struct kl_audit *a, const struct kl_guard_ask *ask, const char *key,
                            struct kl_err *err);
void         kl_audit_done(struct kl_audit *a, const struct kl_guard_ask *ask, const char *key, unsigned status);
void         kl_audit_refused(struct kl_audit *a, const struct kl_guard_ask *ask,
                              const struct kl_guard_verdict *v);

/* Reads all files of a name in order. *count: records that fit. KL_ECORRUPT with file, line and what does
 * not fit; KL_ENOENT: there is no such log. `partial`: the first files may have been taken away. `holds`
 * (or NULL): a hash that was kept elsewhere, and that some record must have. `last`: 64 digits and a NUL. */
enum kl_code kl_audit_verify(const char *folder, const char *name, struct kl_span key, bool partial,
                             const char *holds, uint64_t *count, char last[65], struct kl_err *err);
#endif
