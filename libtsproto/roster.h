#ifndef TSP_ROSTER_H
#define TSP_ROSTER_H
/*
 * The nodes of a cell as one observer sees them: fed with what a watch of the KV brings, asked at the
 * observer's own monotonic time. See node.h for what alive means.
 *
 * A node counts as alive from when its beat was seen to change, not from when its key was first read:
 * the key of one that died long ago looks like any other. Until then it is silent, and the roster is not
 * settled; an observer that decides for others waits until it is.
 *
 * A key that was deleted says nothing of its node, unless an operator removed it: keys get lost. So the node is
 * silent from then on, as it was seen last, and gone when its time has come; one that lives puts its key again.
 *
 * What an operator wants of a node stands in the KV beside it, so that it can be said of a dead one too:
 *   mark.<name>    "drain": takes nothing new and its partitions move away; "removed": counts as gone;
 *                  "leaving": is about to stop, and others do not count on it; "leaving drain": both. Of these
 *                  two the node itself takes what it finds when it starts: it has come back
 *
 * Plain memory, one thread.
 */
#include "libtsproto/rebalance.h"

#define TSP_MARK_PREFIX "mark."
#define TSP_MARK_LEAVES "leaving"
#define TSP_MARK_LEAVES_DRAINED "leaving drain"
enum tsp_mark { TSP_MARK_NONE, TSP_MARK_DRAIN, TSP_MARK_REMOVED, TSP_MARK_LEAVING };

struct tsp_roster;
struct tsp_roster *tsp_roster_new(int64_t silent_ms, int64_t gone_ms);
void tsp_roster_free(struct tsp_roster *r);
/* A key below node. or mark. has this value now (at NULL: it was deleted). Other keys are passed over.
 * KL_EINVAL: the value cannot be read; KL_ELIMIT: more than TSP_NODES_MAX. What was known stays. */
enum kl_code tsp_roster_see(struct tsp_roster *r, const char *key, struct kl_span value,
                            uint64_t revision, int64_t now_ns, struct kl_err *err);
/* How `name` is; one that was never seen or has left is gone. */
enum tsp_presence tsp_roster_presence(const struct tsp_roster *r, const char *name, int64_t now_ns);
/* NULL: it has no key. Valid until the next tsp_roster_see. Its state is DRAINING if it is marked so. */
const struct tsp_node *tsp_roster_node(const struct tsp_roster *r, const char *name,
                                       uint64_t *revision);
/* What the node's clock says now, by its last beat and the time since that came. False: it does not tell, or its
 * last two beats do not show that they came when they were told: who was cut off finds old ones when it is back. */
enum { TSP_CLOCK_LATE_MS = 2 * 60 * 1000 };
bool tsp_roster_clock(const struct tsp_roster *r, const char *name, int64_t now_ns, int64_t *told_ms);
enum tsp_mark tsp_roster_mark(const struct tsp_roster *r, const char *name);
/* Does its beat move, removed or not? */
bool tsp_roster_runs(const struct tsp_roster *r, const char *name, int64_t now_ns);
/* May its key go? It was removed and its beat stands still, or that stands still for `forget_ns`, and for as long as
 * makes one gone; by what this observer saw. */
bool tsp_roster_over(const struct tsp_roster *r, const char *name, int64_t now_ns, int64_t forget_ns);
/* A name that has a mark and has had no key for so long; NULL: there is none. */
const char *tsp_roster_stale_mark(const struct tsp_roster *r, int64_t now_ns, int64_t forget_ns, uint64_t *revision);
/* All of them by name, also who lost its key a while ago; `all` has room for TSP_NODES_MAX. */
unsigned tsp_roster_list(const struct tsp_roster *r, struct tsp_present *all, int64_t now_ns);
/* Whether each node was seen to move, or was watched for long enough to be called silent. */
bool tsp_roster_settled(const struct tsp_roster *r, int64_t now_ns);
/* What stands there: "leaving drain" is TSP_MARK_DRAIN, an unknown word TSP_MARK_NONE. */
enum tsp_mark tsp_mark_of(struct kl_span value);
/* One that goes when its node starts: it was said by who leaves, not by an operator. */
bool tsp_mark_until_start(struct kl_span value);
const char *tsp_mark_text(enum tsp_mark mark);         /* "drain", "removed", "leaving", or "" */
#endif
