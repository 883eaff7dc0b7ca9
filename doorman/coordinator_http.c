/*
 * What operators ask of the cluster and wish of it, below /api/v1/koalemos/. A handler runs on a server
 * thread and hands its request to the coordinator's loop, where everything it wants to see lives; what
 * needs the KV is answered when the KV has.
 */
#include "doorman/coordinator_priv.h"

#include "libkoal/base/json.h"
#include "libkoal/http/http.h"

#include <assert.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BELOW "/api/v1/koalemos/"
enum { CALLS_MAX = 64, BODY_MAX = 4096 };

struct dm_coordinator_http {
    struct dm_coordinator *c;
    _Atomic unsigned calls;                            /* under way */
};
struct call {
    struct kl_env_task task;
    struct dm_coordinator_http *h;
    struct kl_http_request *r;
    void (*answer)(struct call *call);
    struct kl_bus_kv kv;
    struct dm_split split;
    struct dm_repair repair;
    struct kl_buf out;
    char mark[16];
};

/* ---- answering ---- */

static void say(struct call *call, unsigned status, struct kl_buf *body)
{
    kl_http_answer_take(call->r, status, "application/json", body);
    atomic_fetch_sub(&call->h->calls, 1);
    free(call);
}

static void refuse(struct call *call, unsigned status, const char *type, const char *words)
{
    struct kl_buf b = { 0 };

    kl_buf_addf(&b, "{\"status\":\"error\",\"errorType\":\"%s\",\"error\":", type);
    kl_json_cstr(&b, words);
    kl_buf_adds(&b, "}");
    say(call, status, &b);
}

static void begin(struct kl_buf *b)
{
    kl_buf_adds(b, "{\"status\":\"success\",\"data\":{");
}

static void finish(struct call *call, struct kl_buf *b)
{
    kl_buf_adds(b, "}}");
    say(call, 200, b);
}

static const char *comma(bool *first)
{
    const char *c = *first ? "" : ",";

    *first = false;
    return c;
}

static const char *presence_text(enum tsp_presence p)
{
    static const char *const text[] = { "alive", "silent", "gone" };

    return text[p];
}

static const char *state_text(const struct tsp_holding *h)
{
    static const char *const text[] = { "joining", "ready", "broken" };

    return h == NULL ? "unknown" : text[h->state];
}

/* ---- one partition ---- */

static void put_lease(const struct dm_coordinator *c, uint32_t partition, struct kl_buf *b)
{
    const struct dm_held *h = partition < c->held_count ? &c->held[partition] : NULL;

    if (h == NULL || !h->there) {
        kl_buf_adds(b, "\"lease\":null");
        return;
    }
    kl_buf_adds(b, "\"lease\":{\"owner\":");
    kl_json_cstr(b, h->lease.owner);
    kl_buf_addf(b, ",\"epoch\":%" PRIu64 ",\"valid\":%s}", h->lease.epoch,
                dm_coordinator_owned(c, partition) ? "true" : "false");
}

static void put_partition(const struct dm_coordinator *c, uint32_t partition, struct kl_buf *b)
{
    const char *names[TSP_REPLICAS_MAX];
    unsigned    count = tsp_placement_members(c->table, partition, names, TSP_REPLICAS_MAX);
    int64_t     now_ns = kl_env_mono_ns(c->env);

    kl_buf_addf(b, "{\"partition\":%" PRIu32 ",\"members\":[", partition);
    for (unsigned k = 0; k < count; k++) {
        const struct tsp_node    *n = tsp_roster_node(c->roster, names[k], NULL);
        const struct tsp_holding *h = n == NULL ? NULL : tsp_node_holding(n, partition);

        kl_buf_adds(b, k == 0 ? "{\"node\":" : ",{\"node\":");
        kl_json_cstr(b, names[k]);
        kl_buf_adds(b, ",\"zone\":");
        kl_json_cstr(b, n == NULL ? "" : n->zone);
        kl_buf_addf(b, ",\"presence\":\"%s\",\"state\":\"%s\",\"applied\":%" PRIu64 ",\"behind\":%" PRIu64
                    "}", presence_text(tsp_roster_presence(c->roster, names[k], now_ns)), state_text(h),
                    h == NULL ? 0 : h->applied, h == NULL ? 0 : h->behind);
    }
    kl_buf_adds(b, "],");
    put_lease(c, partition, b);
    kl_buf_adds(b, "}");
}

/* ---- the questions ---- */

static bool table_known(struct call *call)
{
    if (call->h->c->table != NULL)
        return true;
    refuse(call, 503, "unavailable", "no placement table was seen yet: no ingestor has registered, or NATS "
           "is out of reach");
    return false;
}

static void shard_map(struct call *call)
{
    const struct dm_coordinator *c = call->h->c;
    struct kl_buf                b = { 0 };

    if (!table_known(call))
        return;
    begin(&b);
    kl_buf_addf(&b, "\"revision\":%" PRIu64 ",\"partitions\":[", tsp_placement_revision(c->table));
    for (uint32_t i = 0; i < tsp_placement_partitions(c->table); i++) {
        kl_buf_adds(&b, i == 0 ? "" : ",");
        put_partition(c, i, &b);
    }
    kl_buf_adds(&b, "]");
    finish(call, &b);
}

static void placement(struct call *call)
{
    const struct dm_coordinator *c = call->h->c;
    const struct tsp_split      *splits;
    struct kl_buf                b = { 0 };

    if (!table_known(call))
        return;
    begin(&b);
    kl_buf_addf(&b, "\"revision\":%" PRIu64 ",\"partitionCount\":%" PRIu32 ",\"assignments\":[",
                tsp_placement_revision(c->table), tsp_placement_partitions(c->table));
    for (uint32_t i = 0; i < tsp_placement_partitions(c->table); i++) {
        const char *names[TSP_REPLICAS_MAX];
        unsigned    count = tsp_placement_members(c->table, i, names, TSP_REPLICAS_MAX);

        kl_buf_adds(&b, i == 0 ? "[" : ",[");
        for (unsigned k = 0; k < count; k++) {
            kl_buf_adds(&b, k == 0 ? "" : ",");
            kl_json_cstr(&b, names[k]);
        }
        kl_buf_adds(&b, "]");
    }
    kl_buf_adds(&b, "],\"splits\":[");
    for (unsigned i = 0, count = tsp_placement_splits(c->table, &splits); i < count; i++) {
        kl_buf_addf(&b, "%s{\"partitionCount\":%" PRIu32 ",\"validFrom\":", i == 0 ? "" : ",",
                    splits[i].partitions);
        kl_json_ms(&b, splits[i].valid_from_ms);
        kl_buf_adds(&b, "}");
    }
    kl_buf_adds(&b, "]");
    finish(call, &b);
}

static void leader(struct call *call)
{
    const struct dm_coordinator *c = call->h->c;
    const char   *metric = kl_http_param(call->r, "metric", 0),
                 *tenant = kl_http_header(call->r, "X-Scope-OrgID");
    uint32_t      first, count, all;
    struct kl_buf b = { 0 };
    struct tsp_placement *t;

    if (metric == NULL) {
        refuse(call, 400, "bad_data", "say which metric: ?metric=NAME");
        return;
    }
    if (!table_known(call))
        return;
    tenant = tenant == NULL || tenant[0] == '\0' ? "anonymous" : tenant;
    t = tsp_layout_table(c->layout);
    if (t == NULL)                                     /* it was deleted, or cannot be read */
        t = tsp_placement_copy(c->table);
    all = tsp_placement_partitions(t);
    tsp_placement_range(t, kl_span_str(tenant), kl_span_str(metric), &first, &count);
    tsp_placement_free(t);
    begin(&b);
    kl_buf_adds(&b, "\"metric\":");
    kl_json_cstr(&b, metric);
    kl_buf_adds(&b, ",\"partitions\":[");
    for (uint32_t i = 0; i < count; i++) {
        kl_buf_adds(&b, i == 0 ? "" : ",");
        put_partition(c, (first + i) % all, &b);
    }
    kl_buf_adds(&b, "]");
    finish(call, &b);
}

static void nodes(struct call *call)
{
    const struct dm_coordinator *c = call->h->c;
    struct tsp_present all[TSP_NODES_MAX];
    int64_t            now_ns = kl_env_mono_ns(c->env);
    unsigned           count = tsp_roster_list(c->roster, all, now_ns);
    struct kl_buf      b = { 0 };

    begin(&b);
    kl_buf_adds(&b, "\"nodes\":[");
    for (unsigned i = 0; i < count; i++) {
        const struct tsp_node *n = all[i].node;
        uint64_t               behind = 0;

        for (uint32_t k = 0; k < n->holding_count; k++)
            behind += n->holdings[k].behind;
        kl_buf_adds(&b, i == 0 ? "{\"name\":" : ",{\"name\":");
        kl_json_cstr(&b, n->name);
        kl_buf_adds(&b, ",\"zone\":");
        kl_json_cstr(&b, n->zone);
        kl_buf_adds(&b, ",\"address\":");
        kl_json_cstr(&b, n->address);
        kl_buf_adds(&b, ",\"version\":");
        kl_json_cstr(&b, n->version);
        kl_buf_addf(&b, ",\"capacity\":%" PRIu32 ",\"presence\":\"%s\",\"state\":\"%s\",\"mark\":\"%s\","
                    "\"partitions\":%" PRIu32 ",\"behind\":%" PRIu64 ",\"started\":", n->capacity,
                    presence_text(all[i].presence), n->state == TSP_NODE_UP ? "up" : "draining",
                    tsp_mark_text(tsp_roster_mark(c->roster, n->name)), n->holding_count, behind);
        kl_json_ms(&b, n->started_ms);
        kl_buf_adds(&b, "}");
    }
    kl_buf_adds(&b, "]");
    finish(call, &b);
}

static void lag(struct call *call)
{
    const struct dm_coordinator *c = call->h->c;
    struct tsp_present all[TSP_NODES_MAX];
    unsigned           count = tsp_roster_list(c->roster, all, kl_env_mono_ns(c->env));
    struct kl_buf      b = { 0 };
    bool               first = true;

    begin(&b);
    kl_buf_adds(&b, "\"lag\":[");
    for (unsigned i = 0; i < count; i++)
        for (uint32_t k = 0; k < all[i].node->holding_count; k++) {
            const struct tsp_holding *h = &all[i].node->holdings[k];

            kl_buf_addf(&b, "%s{\"partition\":%" PRIu32 ",\"node\":", comma(&first), h->partition);
            kl_json_cstr(&b, all[i].node->name);
            kl_buf_addf(&b, ",\"state\":\"%s\",\"applied\":%" PRIu64 ",\"behind\":%" PRIu64 "}",
                        state_text(h), h->applied, h->behind);
        }
    kl_buf_adds(&b, "]");
    finish(call, &b);
}

static void trouble(struct kl_buf *b, bool *first, unsigned count, const char *words)
{
    if (count > 0)
        kl_buf_addf(b, "%s\"%u %s\"", comma(first), count, words);
}

/* The whole in one answer, with a sentence for each thing that is not as it should be. */
static void health(struct call *call)
{
    const struct dm_coordinator *c = call->h->c;
    struct tsp_present all[TSP_NODES_MAX];
    int64_t            now_ns = kl_env_mono_ns(c->env);
    unsigned           count = tsp_roster_list(c->roster, all, now_ns), seen[3] = { 0 }, removed = 0, running = 0;
    struct kl_buf      b = { 0 };
    bool               first = true;

    for (unsigned i = 0; i < count; i++) {
        bool is_removed = tsp_roster_mark(c->roster, all[i].node->name) == TSP_MARK_REMOVED;

        seen[all[i].presence]++;
        removed += is_removed;
        running += is_removed && tsp_roster_runs(c->roster, all[i].node->name, now_ns);
    }
    begin(&b);
    kl_buf_addf(&b, "\"coordinator\":");
    kl_json_cstr(&b, c->lease_there ? c->lease.owner : "");
    kl_buf_addf(&b, ",\"acting\":%s,\"nodes\":{\"alive\":%u,\"silent\":%u,\"gone\":%u},\"troubles\":[",
                dm_coordinator_acts(c) ? "true" : "false", seen[TSP_ALIVE], seen[TSP_SILENT],
                seen[TSP_GONE]);
    trouble(&b, &first, c->table == NULL, "placement tables are missing: no ingestor has registered yet");
    trouble(&b, &first, seen[TSP_SILENT], "ingestors are silent: they may be restarting");
    trouble(&b, &first, seen[TSP_GONE] - removed, "ingestors are gone: remove them if they will not come back");
    trouble(&b, &first, running, "ingestors were removed and still run: stop them, or register them again");
    trouble(&b, &first, c->last.orphans, "partitions have no live member: queries miss what they hold");
    trouble(&b, &first, c->last.short_of, "partitions have fewer live members than the replication factor");
    trouble(&b, &first, c->last.same_zone, "partitions have two members in one zone");
    trouble(&b, &first, c->clocks_apart, "ingestors have a clock more than five minutes from this doorman's: find "
            "out which is right");
    trouble(&b, &first, c->last.joining, "members are loading or catching up");
    trouble(&b, &first, dm_coordinator_differ_count(c), "cuts were not the same for two members: see differences");
    kl_buf_adds(&b, "],");
    dm_coordinator_differ_json(c, &b);
    finish(call, &b);
}

/* ---- the wishes ---- */

static void kv_done(struct kl_bus_kv *op)
{
    struct call  *call = kl_container_of(op, struct call, kv);
    struct kl_buf b = { 0 };

    if (op->code != KL_OK) {
        kl_within(&op->err, "the wish could not be written");
        refuse(call, 503, "unavailable", op->err.text);
        return;
    }
    begin(&b);
    finish(call, &b);
}

static void mark(struct call *call, const char *name, const char *value)
{
    struct dm_coordinator *c = call->h->c;
    struct tsp_node        n = { .capacity = 1 };
    struct kl_err          err;

    if (name == NULL || strlen(name) > TSP_NAME_MAX) {
        refuse(call, 400, "bad_data", "say which node: its name is missing or too long");
        return;
    }
    snprintf(n.name, sizeof n.name, "%s", name);
    if (tsp_node_check(&n, &err) != KL_OK) {
        refuse(call, 400, "bad_data", err.text);
        return;
    }
    call->kv = (struct kl_bus_kv){ .kind = value == NULL ? KL_BUS_KV_DELETE : KL_BUS_KV_PUT,
                                   .expect = UINT64_MAX, .loop = c->loop, .done = kv_done };
    if (value != NULL)
        snprintf(call->mark, sizeof call->mark, "%s", value);
    call->kv.value = kl_span_str(call->mark);
    snprintf(call->kv.key, sizeof call->kv.key, TSP_MARK_PREFIX "%s", name);
    c->bus->kv(c->bus, &call->kv);
}

static void drain(struct call *call)
{
    const char *undo = kl_http_param(call->r, "undo", 0);

    mark(call, kl_http_param(call->r, "node", 0), undo != NULL && strcmp(undo, "true") == 0 ? NULL : "drain");
}

static void change_node(struct call *call)
{
    const char *action = kl_http_param(call->r, "action", 0), *name = kl_http_param(call->r, "name", 0);

    if (action != NULL && strcmp(action, "register") == 0)
        mark(call, name, NULL);
    else if (action != NULL && strcmp(action, "remove") == 0)
        mark(call, name, "removed");
    else
        refuse(call, 400, "bad_data", "say what to do with it: action=register (takes partitions again), or "
               "action=remove (its partitions go to others at once)");
}

/* Another member that is READY comes first in the table; it takes the lease when it sees that. */
static void election(struct call *call)
{
    struct dm_coordinator *c = call->h->c;
    const char *text = kl_http_param(call->r, "partition", 0), *to = kl_http_param(call->r, "node", 0);
    const char *names[TSP_REPLICAS_MAX], *first = NULL;
    char       *end = NULL;
    unsigned long partition = text == NULL ? 0 : strtoul(text, &end, 10);
    unsigned    count, at = 0;
    struct tsp_placement *next;
    struct kl_buf b = { 0 };
    struct kl_err err;

    if (!table_known(call))
        return;
    if (text == NULL || end == text || *end != '\0' || partition >= tsp_placement_partitions(c->table)) {
        refuse(call, 400, "bad_data", "say which partition: ?partition=NUMBER, of those in the shard map");
        return;
    }
    count = tsp_placement_members(c->table, (uint32_t)partition, names, TSP_REPLICAS_MAX);
    for (unsigned k = 1; k < count && first == NULL; k++) {
        const struct tsp_node    *n = tsp_roster_node(c->roster, names[k], NULL);
        const struct tsp_holding *h = n == NULL ? NULL : tsp_node_holding(n, (uint32_t)partition);

        if (h != NULL && h->state == TSP_HOLDING_READY && (to == NULL || strcmp(to, names[k]) == 0) &&
            tsp_roster_presence(c->roster, names[k], kl_env_mono_ns(c->env)) == TSP_ALIVE) {
            first = names[k];
            at = k;
        }
    }
    if (first == NULL) {
        refuse(call, 409, "conflict", "no other member of that partition, or not the one named, is alive "
               "and has caught up");
        return;
    }
    for (unsigned k = at; k > 0; k--)
        names[k] = names[k - 1];
    names[0] = first;
    next = tsp_placement_copy(c->table);
    if (tsp_placement_assign(next, (uint32_t)partition, names, count, &err) != KL_OK)
        assert(!"members of a table fit the table");
    if (!dm_coordinator_put(c, next)) {
        refuse(call, 503, "unavailable", "another change of the placement table is under way: try again");
        return;
    }
    begin(&b);
    kl_buf_adds(&b, "\"owner\":");
    kl_json_cstr(&b, first);
    finish(call, &b);
}

static void split_done(struct dm_split *s)
{
    struct call  *call = kl_container_of(s, struct call, split);
    struct kl_buf b = { 0 };

    if (s->code != KL_OK) {
        refuse(call, s->code == KL_EINVAL ? 400 : 409, s->code == KL_EINVAL ? "bad_data" : "conflict",
               s->err.text);
        return;
    }
    begin(&b);
    kl_buf_addf(&b, "\"partitionCount\":%" PRIu32 ",\"validFrom\":", s->partitions);
    kl_json_ms(&b, s->valid_from_ms);
    finish(call, &b);
}

static void split(struct call *call)
{
    const char   *text = kl_http_param(call->r, "partitions", 0);
    char         *end = NULL;
    unsigned long wanted = text == NULL ? 0 : strtoul(text, &end, 10);

    if (text != NULL && (end == text || *end != '\0' || wanted == 0 || wanted > TSP_PARTITIONS_MAX)) {
        refuse(call, 400, "bad_data", "partitions: a number, twice what there are; or leave it out");
        return;
    }
    if (!call->h->c->o.manage) {
        refuse(call, 409, "conflict", "placement.static gives the partitions: only a cell whose coordinator "
               "gives them can be split");
        return;
    }
    call->split = (struct dm_split){ .partitions = (uint32_t)wanted, .done = split_done };
    dm_coordinator_split(call->h->c, &call->split);
}

static void repair_done(struct dm_repair *r)
{
    struct call  *call = kl_container_of(r, struct call, repair);
    struct kl_buf b = { 0 };

    if (r->code != KL_OK) {
        refuse(call, r->code == KL_EINVAL ? 400 : r->code == KL_EEXIST ? 409 : 503,
               r->code == KL_EINVAL ? "bad_data" : r->code == KL_EEXIST ? "conflict" : "unavailable", r->err.text);
        return;
    }
    begin(&b);
    finish(call, &b);
}

static void repair(struct call *call)
{
    const char   *text = kl_http_param(call->r, "partition", 0), *node = kl_http_param(call->r, "node", 0);
    char         *end = NULL;
    unsigned long partition = text == NULL ? 0 : strtoul(text, &end, 10);

    if (text == NULL || text[0] < '0' || text[0] > '9' || *end != '\0' || partition >= TSP_PARTITIONS_MAX ||
        node == NULL || strlen(node) > TSP_NAME_MAX) {
        refuse(call, 400, "bad_data", "say which partition, and which of its members is to make it anew: "
               "?partition=NUMBER&node=NAME, as in the shard map");
        return;
    }
    call->repair = (struct dm_repair){ .partition = (uint32_t)partition, .done = repair_done };
    strcpy(call->repair.node, node);
    dm_coordinator_repair(call->h->c, &call->repair);
}

/* ---- routes ---- */

static void run(struct kl_env_task *task)
{
    struct call *call = kl_container_of(task, struct call, task);

    call->answer(call);
}

static void hand_over(struct dm_coordinator_http *h, struct kl_http_request *r,
                      void (*answer)(struct call *call))
{
    struct call *call;

    if (atomic_fetch_add(&h->calls, 1) >= CALLS_MAX) {
        atomic_fetch_sub(&h->calls, 1);
        kl_http_set(r, "Retry-After", "1");
        kl_http_answer(r, 503, "text/plain; charset=utf-8", kl_span_str("too many such requests at once\n"));
        return;
    }
    call = kl_new(sizeof *call);
    *call = (struct call){ .task.run = run, .h = h, .r = r, .answer = answer };
    h->c->env->sched->post(h->c->loop, &call->task);
}

#define ROUTE(name) static void at_##name(void *ctx, struct kl_http_request *r) { hand_over(ctx, r, name); }
ROUTE(placement)
ROUTE(shard_map)
ROUTE(leader)
ROUTE(nodes)
ROUTE(change_node)
ROUTE(lag)
ROUTE(health)
ROUTE(drain)
ROUTE(election)
ROUTE(split)
ROUTE(repair)

struct dm_coordinator_http *dm_coordinator_http_new(struct dm_coordinator *c,
                                                    struct kl_http_server *s)
{
    static const struct {
        const char *method, *path;
        void (*handle)(void *ctx, struct kl_http_request *r);
    } routes[] = {
        { "GET", BELOW "placement", at_placement },
        { "GET", BELOW "shard-map", at_shard_map },
        { "GET", BELOW "leader", at_leader },
        { "GET", BELOW "nodes", at_nodes },
        { "POST", BELOW "nodes", at_change_node },
        { "GET", BELOW "lag", at_lag },
        { "GET", BELOW "health", at_health },
        { "POST", BELOW "drain", at_drain },
        { "POST", BELOW "election", at_election },
        { "POST", BELOW "split", at_split },
        { "POST", BELOW "repair", at_repair },
    };
    struct dm_coordinator_http *h = kl_new(sizeof *h);

    h->c = c;
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++)
        kl_http_route_add(s, &(struct kl_http_route){ .method = routes[i].method,
                                                      .path = routes[i].path,
                                                      .body_max_bytes = BODY_MAX,
                                                      .handle = routes[i].handle, .ctx = h });
    return h;
}

void dm_coordinator_http_free(struct dm_coordinator_http *h) { free(h); }
