#include "libtsproto/roster.h"

#include "libkoal/base/sorted.h"

#include <stdlib.h>
#include <string.h>

struct entry {
    char            name[TSP_NAME_MAX + 1];
    struct tsp_node node;                              /* valid while `there` or `lost` */
    bool            there, moved;
    bool            lost;                              /* its key was deleted, and nobody said that it is removed */
    bool            steady;                            /* between its last two beats its clock ran as ours */
    enum tsp_mark   mark;
    uint64_t        revision, mark_revision;           /* of its key; of its mark's, 0: it has none */
    int64_t         first_ns, moved_ns, heard_ns;      /* heard: the first time with the beat it has */
    int64_t         idle_ns;                           /* since when the mark is as it is, and there is no key */
};
struct tsp_roster {
    int64_t       silent_ns, gone_ns;
    size_t        count;
    struct entry *all[TSP_NODES_MAX];                  /* by name */
};

struct tsp_roster *tsp_roster_new(int64_t silent_ms, int64_t gone_ms)
{
    struct tsp_roster *r = kl_new(sizeof *r);

    r->silent_ns = silent_ms * 1000000;
    r->gone_ns = (gone_ms > silent_ms ? gone_ms : silent_ms) * 1000000;
    return r;
}

static void entry_free(struct entry *e)
{
    tsp_node_deinit(&e->node);
    free(e);
}

void tsp_roster_free(struct tsp_roster *r)
{
    if (r == NULL)
        return;
    for (unsigned i = 0; i < r->count; i++)
        entry_free(r->all[i]);
    free(r);
}

static int by_name(const void *name, const void *e) { return strcmp(name, (*(struct entry *const *)e)->name); }

static int64_t still_ns(const struct entry *e, int64_t now_ns)
{
    return now_ns - (e->moved ? e->moved_ns : e->first_ns);
}

static bool is_gone(const struct tsp_roster *r, const struct entry *e, int64_t now_ns)
{
    return still_ns(e, now_ns) >= r->gone_ns;
}

/* Where `name` is or would be. */
static size_t place(const struct tsp_roster *r, const char *name, bool *found)
{
    return kl_sorted_place(name, r->all, r->count, sizeof r->all[0], by_name, found);
}

static struct entry *find(const struct tsp_roster *r, const char *name)
{
    bool   found;
    size_t at = place(r, name, &found);

    return found ? r->all[at] : NULL;
}

static void forget(struct tsp_roster *r, size_t at)
{
    entry_free(r->all[at]);
    kl_sorted_close(r->all, &r->count, sizeof r->all[0], at);
}

/* Who is there comes before who was. */
static void make_room(struct tsp_roster *r)
{
    for (unsigned i = 0; i < r->count; i++)
        if (r->all[i]->lost && r->all[i]->mark_revision == 0) {
            forget(r, i);
            return;
        }
}

static struct entry *make(struct tsp_roster *r, const char *name)
{
    bool          found;
    size_t        at = place(r, name, &found);
    struct entry *e;

    if (found)
        return r->all[at];
    if (r->count == TSP_NODES_MAX) {
        make_room(r);
        at = place(r, name, &found);
    }
    if (r->count == TSP_NODES_MAX)
        return NULL;
    e = kl_new(sizeof *e);
    memcpy(e->name, name, strlen(name) + 1);
    kl_sorted_open(r->all, &r->count, sizeof r->all[0], at);
    r->all[at] = e;
    return e;
}

/* Whether what `n` tells of its clock was told just now, and not long before it came to us. */
static bool runs_as_ours(const struct entry *e, const struct tsp_node *n, int64_t now_ns)
{
    int64_t theirs_ms, ours_ms = (now_ns - e->heard_ns) / 1000000;

    return e->node.now_ms != 0 && n->now_ms != 0 &&
           !__builtin_sub_overflow(n->now_ms, e->node.now_ms, &theirs_ms) &&
           theirs_ms > ours_ms - TSP_CLOCK_LATE_MS && theirs_ms < ours_ms + TSP_CLOCK_LATE_MS;
}

/* Nothing is known of it any more. */
static void forget_idle(struct tsp_roster *r, const char *name)
{
    bool   found;
    size_t at = place(r, name, &found);

    if (found && !r->all[at]->there && !r->all[at]->lost && r->all[at]->mark_revision == 0)
        forget(r, at);
}

enum tsp_mark tsp_mark_of(struct kl_span value)
{
    if (kl_span_eq(value, kl_span_str("drain")) || kl_span_eq(value, kl_span_str(TSP_MARK_LEAVES_DRAINED)))
        return TSP_MARK_DRAIN;
    if (kl_span_eq(value, kl_span_str(TSP_MARK_LEAVES)))
        return TSP_MARK_LEAVING;
    return kl_span_eq(value, kl_span_str("removed")) ? TSP_MARK_REMOVED : TSP_MARK_NONE;
}

bool tsp_mark_until_start(struct kl_span value)
{
    return kl_span_eq(value, kl_span_str(TSP_MARK_LEAVES)) ||
           kl_span_eq(value, kl_span_str(TSP_MARK_LEAVES_DRAINED));
}

const char *tsp_mark_text(enum tsp_mark mark)
{
    static const char *const texts[] = { "", "drain", "removed", TSP_MARK_LEAVES };

    return texts[mark];
}

static enum kl_code too_many(struct kl_err *err)
{
    return kl_fail(err, KL_ELIMIT, "more than %d nodes: a cell has room for no more", TSP_NODES_MAX);
}

static enum kl_code see_node(struct tsp_roster *r, const char *name, struct kl_span value,
                             uint64_t revision, int64_t now_ns, struct kl_err *err)
{
    struct tsp_node n;
    struct entry   *e;
    bool            other;

    if (tsp_node_decode(value, &n, err) != KL_OK)
        return kl_within(err, "node %s", name);
    if (strcmp(n.name, name) != 0) {
        tsp_node_deinit(&n);
        return kl_fail(err, KL_EINVAL, "the key of node %s holds another's words", name);
    }
    e = make(r, name);
    if (e == NULL) {
        tsp_node_deinit(&n);
        return too_many(err);
    }
    if (e->there && revision < e->revision) {          /* a state repeated after a reconnection */
        tsp_node_deinit(&n);
        return KL_OK;
    }
    other = !e->there || memcmp(&e->node.instance, &n.instance, sizeof n.instance) != 0;
    if (other || e->node.beat != n.beat) {
        e->steady = !other && runs_as_ours(e, &n, now_ns);
        e->heard_ns = now_ns;
    }
    if (e->there && (other || e->node.beat != n.beat)) {
        e->moved = true;
        e->moved_ns = now_ns;
    }
    if (!e->there) {
        e->moved = false;
        e->first_ns = now_ns;
    }
    tsp_node_deinit(&e->node);
    e->node = n;
    e->revision = revision;
    e->there = true;
    e->lost = false;
    if (e->mark == TSP_MARK_DRAIN)
        e->node.state = TSP_NODE_DRAINING;
    return KL_OK;
}

static enum kl_code see_mark(struct tsp_roster *r, const char *name, struct kl_span value,
                             uint64_t revision, int64_t now_ns, struct kl_err *err)
{
    struct entry *e;

    if (strlen(name) > TSP_NAME_MAX)
        return kl_fail(err, KL_EINVAL, "a mark for a name of %zu bytes", strlen(name));
    e = make(r, name);
    if (e == NULL)
        return too_many(err);
    /* What the node said of its own state comes back with its next heartbeat. */
    e->mark = value.at == NULL ? TSP_MARK_NONE : tsp_mark_of(value);
    e->mark_revision = value.at == NULL ? 0 : revision;
    e->idle_ns = now_ns;
    if (e->there && e->mark == TSP_MARK_DRAIN)
        e->node.state = TSP_NODE_DRAINING;
    forget_idle(r, name);
    return KL_OK;
}

enum kl_code tsp_roster_see(struct tsp_roster *r, const char *key, struct kl_span value,
                            uint64_t revision, int64_t now_ns, struct kl_err *err)
{
    const char   *name;
    struct entry *e;

    if (strncmp(key, TSP_MARK_PREFIX, strlen(TSP_MARK_PREFIX)) == 0)
        return see_mark(r, key + strlen(TSP_MARK_PREFIX), value, revision, now_ns, err);
    if (strncmp(key, TSP_NODE_PREFIX, strlen(TSP_NODE_PREFIX)) != 0)
        return KL_OK;
    name = key + strlen(TSP_NODE_PREFIX);
    if (value.at != NULL)
        return see_node(r, name, value, revision, now_ns, err);
    e = find(r, name);
    if (e != NULL && (e->there || e->lost)) {
        e->there = false;
        e->idle_ns = now_ns;
        e->lost = e->mark != TSP_MARK_REMOVED && !is_gone(r, e, now_ns);
        if (!e->lost)
            tsp_node_deinit(&e->node);
        forget_idle(r, name);
    }
    return KL_OK;
}

static enum tsp_presence presence(const struct tsp_roster *r, const struct entry *e, int64_t now_ns)
{
    if (e == NULL || (!e->there && !e->lost) || e->mark == TSP_MARK_REMOVED || is_gone(r, e, now_ns))
        return TSP_GONE;
    return e->there && e->moved && now_ns - e->moved_ns < r->silent_ns ? TSP_ALIVE : TSP_SILENT;
}

enum tsp_presence tsp_roster_presence(const struct tsp_roster *r, const char *name, int64_t now_ns)
{
    return presence(r, find(r, name), now_ns);
}

const struct tsp_node *tsp_roster_node(const struct tsp_roster *r, const char *name,
                                       uint64_t *revision)
{
    const struct entry *e = find(r, name);

    if (e == NULL || !e->there)
        return NULL;
    if (revision != NULL)
        *revision = e->revision;
    return &e->node;
}

bool tsp_roster_clock(const struct tsp_roster *r, const char *name, int64_t now_ns, int64_t *told_ms)
{
    const struct entry *e = find(r, name);

    return e != NULL && e->there && e->steady &&
           !__builtin_add_overflow(e->node.now_ms, (now_ns - e->heard_ns) / 1000000, told_ms);
}

enum tsp_mark tsp_roster_mark(const struct tsp_roster *r, const char *name)
{
    const struct entry *e = find(r, name);

    return e == NULL ? TSP_MARK_NONE : e->mark;
}

unsigned tsp_roster_list(const struct tsp_roster *r, struct tsp_present *all, int64_t now_ns)
{
    unsigned count = 0;

    for (unsigned i = 0; i < r->count; i++)
        if (r->all[i]->there || (r->all[i]->lost && presence(r, r->all[i], now_ns) != TSP_GONE))
            all[count++] = (struct tsp_present){ &r->all[i]->node, presence(r, r->all[i], now_ns) };
    return count;
}

bool tsp_roster_settled(const struct tsp_roster *r, int64_t now_ns)
{
    for (unsigned i = 0; i < r->count; i++) {
        const struct entry *e = r->all[i];

        if (e->there && !e->moved && e->mark != TSP_MARK_REMOVED && now_ns - e->first_ns < r->silent_ns)
            return false;
    }
    return true;
}

bool tsp_roster_runs(const struct tsp_roster *r, const char *name, int64_t now_ns)
{
    const struct entry *e = find(r, name);

    return e != NULL && e->there && e->moved && still_ns(e, now_ns) < r->silent_ns;
}

static int64_t at_least_gone(const struct tsp_roster *r, int64_t forget_ns)
{
    return forget_ns > r->gone_ns ? forget_ns : r->gone_ns;
}

bool tsp_roster_over(const struct tsp_roster *r, const char *name, int64_t now_ns, int64_t forget_ns)
{
    const struct entry *e = find(r, name);

    return e != NULL && e->there &&
           still_ns(e, now_ns) >= (e->mark == TSP_MARK_REMOVED ? r->silent_ns : at_least_gone(r, forget_ns));
}

const char *tsp_roster_stale_mark(const struct tsp_roster *r, int64_t now_ns, int64_t forget_ns, uint64_t *revision)
{
    for (unsigned i = 0; i < r->count; i++) {
        const struct entry *e = r->all[i];

        if (e->there || e->mark_revision == 0 || now_ns - e->idle_ns < at_least_gone(r, forget_ns))
            continue;
        *revision = e->mark_revision;
        return e->name;
    }
    return NULL;
}
