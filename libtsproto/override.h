#ifndef TSP_OVERRIDE_H
#define TSP_OVERRIDE_H
/*
 * What is said of one tenant while services run, over what their file says: in the KV, under
 * override.<32 hex digits, a hash of the tenant's name>. The value holds what is in force and what was
 * before it, newest first, so that a change, its history and a rollback are one compare-and-set:
 *
 *   u8 version = 1 · tenant · varint count, then for each version of it:
 *     varint number (1, 2, ...) · varint time, ms since the epoch · varint of (rolled back to; 0)
 *     · by · note · all                                  (spans: varint length, then bytes)
 *   u32 CRC-32C of all before
 *
 * `all` is JSON, option to text, as kl_config_said_read makes it, and of no other form; "{}" says nothing. Older versions that
 * do not fit are left out; the newest always fits. A name is told in the value because a hash is not one:
 * who finds another tenant's there refuses it.
 */
#include <stdint.h>

#include "libkoal/base/buf.h"
#include "libkoal/base/err.h"

#define TSP_OVERRIDE_PREFIX "override."
enum { TSP_OVERRIDE_VERSIONS_MAX = 50, TSP_OVERRIDE_ALL_MAX = 16 * 1024, TSP_OVERRIDE_BY_MAX = 100,
       TSP_OVERRIDE_NOTE_MAX = 300, TSP_OVERRIDE_VALUE_MAX = 60 * 1024 };

struct tsp_override_version {
    uint64_t number, of;                               /* of: not 0: that one again */
    int64_t  time_ms;
    struct kl_span by, note, all;
};
struct tsp_override {
    struct kl_span tenant;
    uint32_t count;                                    /* at least one */
    struct tsp_override_version versions[TSP_OVERRIDE_VERSIONS_MAX];
};

void         tsp_override_key(struct kl_span tenant, char *out, size_t size);
/* Spans are into `bytes`. KL_ECORRUPT with words, KL_ELIMIT where a newer version of us wrote it. */
enum kl_code tsp_override_read(struct kl_span bytes, struct tsp_override *o, struct kl_err *err);
/* KL_EINVAL: past a bound above, or numbers that do not fall. */
enum kl_code tsp_override_write(const struct tsp_override *o, struct kl_buf *out, struct kl_err *err);
#endif
