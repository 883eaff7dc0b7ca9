#ifndef KL_AUTH_H
#define KL_AUTH_H
/*
 * The guard of every listener: which key asks, whether its roles let it, for which tenant; how often;
 * and a record of what was refused and of every order that an operator gives (audit.h).
 *
 * Without a file of keys nobody is asked for one, and only orders are recorded; without an audit log
 * orders are lines of the process's log. With one, nothing but
 * /-/healthy and /-/ready is answered without a key. The file is read when it is opened and by
 * `reload`, which takes all of it or nothing. Any thread; its one lock is a leaf.
 *
 * An order whose record cannot be written is refused with 503: there is none without a trace.
 */
#include "libkoal/auth/audit.h"
#include "libkoal/auth/keys.h"
#include "libkoal/base/log.h"
#include "libkoal/base/metrics.h"

struct kl_auth;
struct kl_auth_options {
    const char *keys_file;                             /* NULL: nobody is asked for a key */
    uint32_t    rate;                                  /* requests a second of a key without its own; 0: any */
    int64_t   (*now_ms)(void *ctx);                    /* never goes back: for rates */
    void       *ctx;
    struct kl_log *log;
    struct kl_metrics *metrics;
};
/* KL_ENOENT, KL_EINVAL ... with a sentence that names file and line. */
enum kl_code kl_auth_open(const struct kl_auth_options *o, struct kl_auth **auth, struct kl_err *err);
void         kl_auth_close(struct kl_auth *a);
/* From here on it records; NULL: no more. Before the listeners start; stays the caller's. */
void         kl_auth_audit(struct kl_auth *a, struct kl_audit *audit);
const struct kl_guard *kl_auth_guard(struct kl_auth *a);
bool         kl_auth_is_on(const struct kl_auth *a);
/* Reads the file anew when it is another than it was; on a failure what was known stays. *changed may
 * be NULL. */
enum kl_code kl_auth_reload(struct kl_auth *a, bool *changed, struct kl_err *err);
#endif
