#ifndef ING_MEMBER_PRIV_H
#define ING_MEMBER_PRIV_H
/* member.c keeps the name, member_lease.c the leases. On the member's loop but for what is atomic. */
#include <stdatomic.h>

#include "ingestor/member.h"

struct ing_lease {                                     /* one a partition */
    struct ing_member *m;
    uint32_t partition;
    bool     there, out;                               /* the key; an operation of ours */
    int64_t  looked_ns;                                /* at the key itself, last */
    struct tsp_lease seen;
    uint64_t revision;
    uint64_t tried_at;                                 /* the revision that a change of ours went by; UINT64_MAX: none */
    _Atomic uint64_t epoch;                            /* ours; 0: not ours */
    _Atomic uint64_t other;                            /* hash of the name of another who has it, alive and ready; 0 */
    struct kl_bus_kv op;
    struct kl_buf    bytes;
};
enum ing_member_words { ING_MEMBER_OK, ING_MEMBER_UNREACHED, ING_MEMBER_NAME_TAKEN, ING_MEMBER_REMOVED };
struct ing_member {
    struct kl_env *env;
    struct kl_bus *bus;
    struct kl_env_loop *loop;
    struct ing_member_options o;
    struct tsp_node node;                              /* what is said next; holdings have room for all */
    struct tsp_roster    *roster;
    struct tsp_placement *table;                       /* NULL: not seen */
    uint64_t table_revision;                           /* of its key; 0: the key was deleted since */
    bool     nodes_current, leases_current, marks_current;
    uint64_t old_mark;                                 /* of a mark that our last life left: its revision; 0: none */

    bool     leaving, told;                            /* holds and owns nothing any more; the KV says so */
    void   (*left)(void *ctx); void *left_ctx;         /* NULL once it was called */
    bool     mine, out;                                /* the name; a heartbeat is under way */
    uint64_t revision;                                 /* of our key as we wrote it */
    uint64_t found;                                    /* by a look at the key, to be ours; UINT64_MAX: none */
    int64_t  sent_ns;
    struct tsp_incarnation other;                      /* who has the name, */
    uint64_t other_beat;
    int64_t  other_since_ns;                           /* and since when its beat stands still */
    _Atomic int64_t until_ns;                          /* owns nothing from then on */
    _Atomic int     words;                             /* enum ing_member_words */
    struct ing_lease *leases;

    struct kl_bus_watch node_watch, mark_watch, lease_watch, table_watch;
    struct kl_bus_kv  op, mark_op;
    struct kl_buf     bytes;
    struct kl_env_task  begin, end, leave;
    struct kl_env_timer tick;
    struct kl_metric *owned, *taken, *given, *heartbeats, *failures;
};

/* The last heartbeat that the KV took is young enough. Any thread. */
static inline bool ing_member_in_time(const struct ing_member *m)
{
    return kl_env_mono_ns(m->env) < atomic_load(&m->until_ns);
}

/* member_lease.c */
void ing_leases_init(struct ing_member *m);
void ing_leases_deinit(struct ing_member *m);
void ing_leases_watch(struct ing_member *m);
void ing_leases_tick(struct ing_member *m);
/* Whether none is ours and none is on its way. */
bool ing_leases_quiet(const struct ing_member *m);
/* The name is lost, or time is up: nothing is ours. */
void ing_leases_drop(struct ing_member *m);
#endif
