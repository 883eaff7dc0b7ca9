#ifndef OV_OVERRIDES_H
#define OV_OVERRIDES_H
/*
 * What is said of single tenants while services run: limits, retention, window, features, over what the
 * file says of them. It lies in the KV (libtsproto/override.h), each service watches it, and puts it into
 * the configuration in force (libkoal/env/live.h): from there on it is as if the file had said it.
 *
 * A value that cannot be read, or is another tenant's, is passed over and told; what stood there before
 * stays in force. Of one that a newer program wrote the options that are not known here are passed over.
 * Bounded: OV_TENANTS_MAX tenants, OV_BYTES_MAX bytes together; past these a change is refused.
 *
 * An ov is a loop and what it owns. Everything here may be called by any thread.
 */
#include <stdbool.h>
#include <stdint.h>

#include "libkoal/base/config.h"
#include "libkoal/base/log.h"
#include "libkoal/base/metrics.h"
#include "libkoal/bus/bus.h"
#include "libkoal/env/env.h"
#include "libkoal/env/live.h"
#include "libtsproto/override.h"

enum { OV_TENANTS_MAX = 10000, OV_BYTES_MAX = 32 << 20, OV_CHANGES_MAX = 64 };

struct ov_options {
    struct kl_env_live *live;                          /* outlives it */
    const struct kl_option *table;
    /* What the table cannot say of a tenant's options: asked of a change before it is put, with the configuration as it
     * would be, of that tenant. NULL: nothing. */
    enum kl_code (*check)(const struct kl_config *c, const char *tenant, struct kl_err *err);
    struct kl_log *log;
    struct kl_metrics *metrics;                        /* may be NULL */
};
struct ov;
struct ov *ov_new(struct kl_env *env, struct kl_bus *bus, const struct ov_options *options);
void       ov_free(struct ov *o);                      /* after the bus is closed */
/* Have all that there are been seen once? Before, a tenant might be refused what it was granted. */
bool       ov_known(struct ov *o, struct kl_err *err);

/*
 * A change: one compare-and-set, tried again when it was lost. It is in force here when done is called
 * with KL_OK, unless something was forgotten meanwhile, and elsewhere when the KV has told. The caller's until done.
 *
 *   SET       what `yaml` says, instead of what was said
 *   MERGE     over it, with `unset` (ends with NULL, or is NULL) taken back
 *   ROLLBACK  what version `to` said
 *   FORGET    nothing, and no history
 */
enum ov_kind { OV_SET, OV_MERGE, OV_ROLLBACK, OV_FORGET };
struct ov_change {
    /* in */
    enum ov_kind kind;
    char     tenant[KL_TENANT_MAX + 1];
    struct kl_span yaml;                               /* kept until done */
    const char *const *unset;
    uint64_t expect;                                   /* the version it changes; UINT64_MAX: whichever */
    uint64_t to;
    char     by[TSP_OVERRIDE_BY_MAX + 1], note[TSP_OVERRIDE_NOTE_MAX + 1];
    void   (*done)(struct ov_change *c);               /* on the ov's loop */
    /* out; KL_EINVAL: wrong; KL_EEXIST: not the version expected; KL_ENOENT: no such version; KL_ELIMIT */
    enum kl_code  code;
    struct kl_err err;
    uint64_t version;
    /* the ov's */
    struct ov *o;
    struct kl_env_task task;
    struct kl_bus_kv kv;
    struct kl_buf value;
    uint64_t deletions;                                /* that the watch had told when it was sent */
    unsigned tries;
};
void ov_change(struct ov *o, struct ov_change *c);

/* The routes /api/v1/koalemos/overrides: see http.c. Freed after the server has stopped and the ov is freed. */
struct kl_http_server;
struct ov_http;
struct ov_http *ov_http_new(struct ov *o, struct kl_http_server *s);
void            ov_http_free(struct ov_http *h);
#endif
