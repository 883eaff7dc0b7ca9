/*
 * Whole cells that live through what a network, machines and operators do to them, each replayable from a
 * seed. Two clients write values that check themselves, and repeat what was not acknowledged, at whichever
 * doorman; meanwhile processes are killed, lose their power or their disk (one, or all of them), stand still past their leases,
 * are cut off; ingestors are drained, members made anew from the log; a metric is spread, the partitions are split; keys are wiped. At any
 * time an answer that does not say that something is missing has every acknowledged sample; in the end all
 * do, whoever answers; and never is there a sample that was not sent. What ingestors are asked to count counts each once (counts.h).
 *
 * SEED=n lives one alone, KOA_SAY=1 tells what it logs; KOA_SIM_SEEDS=500 lives as many, from seed KOA_SIM_FROM on.
 */
#include "tests/sim/cluster.h"

enum { LIVES = 24, AT_ONCE = 4, ROUNDS = 36, WRITERS = 2, SERIES = 5, BATCH = 4, SENT_MAX = 4000, DAYS_MS = 2 * 86400000 };

struct life;
struct writer {
    struct life *life;
    unsigned number;
    int64_t  times[SENT_MAX];                          /* of index i, in every series */
    unsigned acked, sent;                              /* indexes below; sent: or under way */
    struct kit_push *out;
    unsigned at;                                       /* the doorman that it was sent to */
    int64_t  give_up_ns;
};
struct query {
    struct qr_names n;
    struct writer  *w;
    unsigned acked;                                    /* when it was asked */
    bool     answered, must;                           /* must: be complete */
    unsigned series, samples;                          /* found */
};
struct count;
struct life {
    struct cell   c;
    struct count *count;                               /* counts.h */
    unsigned      counts, pushed;
    struct writer writers[WRITERS];
    struct query *out;
    bool          spread, split;
    unsigned      complete, incomplete, refused, events;
};

static double value_of(unsigned writer, unsigned series, unsigned index)
{
    return (double)((writer * 1000003ull + series * 7919 + index * 104729ull) % 1000000007);
}

/* ---- writing ---- */

/* check's own assertions write to a file, each time that they hold. */
#define must_hold(so, ...) do { if (!(so)) ck_abort_msg(__VA_ARGS__); } while (0)

static unsigned index_of(const struct writer *w, int64_t time_ms)
{
    for (unsigned i = 0; i < w->sent; i++)
        if (w->times[i] == time_ms)
            return i;
    return w->sent;
}

static unsigned some_doorman(struct cell *c)
{
    unsigned first = (unsigned)(c_draw(c) % C_DOORMEN);

    for (unsigned k = 0; k < C_DOORMEN; k++)
        if (c->nodes[(first + k) % C_DOORMEN].env != NULL)
            return (first + k) % C_DOORMEN;
    return C_DOORMEN;
}

static void send_batch(struct life *l, struct writer *w)
{
    struct cell  *c = &l->c;
    struct kl_buf body = { 0 };
    bool          more = c_draw(c) % 3 == 0;           /* start times, exemplars and metadata besides */

    w->at = some_doorman(c);
    if (w->at == C_DOORMEN || w->acked + BATCH > SENT_MAX)
        return;
    if (w->sent == w->acked) {                         /* a new one; else what was not acked, again */
        /* Now and then a batch comes late: minutes after its time. */
        int64_t at = kl_env_now_ms(c->env) - (c_draw(c) % 12 == 0 ? 1000 * (int64_t)(c_draw(c) % 200) : 0);

        for (unsigned k = 0; k < BATCH; k++) {
            while (index_of(w, at) < w->sent)
                at++;
            w->times[w->sent++] = at;
        }
    }
    if (more)
        kl_buf_addf(&body, "# TYPE checked_%u counter\n# HELP checked_%u Told %u times.\n", w->number, w->number,
                    (unsigned)(c_draw(c) % 3));
    for (unsigned n = 0; n < SERIES; n++) {
        for (unsigned i = w->acked; i < w->sent; i++)
            if (more)
                kl_buf_addf(&body, "checked_%u{series=\"%u\"} %.17g %.3f # {trace=\"%u\"} 1 %.3f\n", w->number, n,
                            value_of(w->number, n, i), (double)w->times[i] / 1000, i, (double)w->times[i] / 1000);
            else
                kl_buf_addf(&body, "checked_%u{series=\"%u\"} %.17g %" PRId64 "\n", w->number, n,
                            value_of(w->number, n, i), w->times[i]);
        if (more)
            kl_buf_addf(&body, "checked_%u_created{series=\"%u\"} %.3f\n", w->number, n,
                        (double)w->times[0] / 1000 - (double)(c_draw(c) % 3));
    }
    if (more)
        kl_buf_adds(&body, "# EOF\n");
    w->out = kl_new(sizeof *w->out);
    w->give_up_ns = c_now_ns(c) + INT64_C(10000000000);
    kit_push_as(w->out, c->nodes[w->at].dm, (unsigned)(c_draw(c) % 2), more ? DM_OPENMETRICS : DM_TEXT, body,
                kl_hash128(body.at, body.size), kl_env_now_ms(c->nodes[w->at].env));
}

/* One that is given up may land yet: its memory stays. */
static void go_on_writing(struct life *l, struct writer *w)
{
    if (w->out != NULL && w->out->done) {
        unsigned status = w->out->p.status;

        must_hold(status == 204 || status == 503, "seed %" PRIu64 ": a good push was answered %u %s",
                      l->c.seed, status, w->out->p.text);
        if (status == 204)
            w->acked = w->sent;
        free(w->out);
        w->out = NULL;
    } else if (w->out != NULL && (c_now_ns(&l->c) > w->give_up_ns || l->c.nodes[w->at].env == NULL)) {
        w->out = NULL;
    }
    if (w->out == NULL && (w->acked < w->sent || c_draw(&l->c) % 6 == 0))
        send_batch(l, w);
}

/* ---- reading ---- */

static void check_series(struct life *l, struct query *x, const struct pql_series *s)
{
    static bool    seen[SENT_MAX];
    struct writer *w = x->w;
    unsigned       n = (unsigned)strtoul((const char *)kl_labels_get(s->labels, kl_span_str("series")).at, NULL, 10);

    memset(seen, 0, sizeof seen);
    for (size_t i = 0, next = 0; i < s->count; i++) {
        /* Most follow each other as they were sent; those of late batches are looked for. */
        unsigned at = next < w->sent && w->times[next] == s->times_ms[i] ? (unsigned)next
                                                                         : index_of(w, s->times_ms[i]);

        next = at + 1;

        must_hold(at < w->sent, "seed %" PRIu64 ": checked_%u series %u: a sample at %" PRId64
                      " that nobody sent", l->c.seed, w->number, n, s->times_ms[i]);
        must_hold(!seen[at], "seed %" PRIu64 ": checked_%u series %u: index %u twice", l->c.seed, w->number,
                      n, at);
        seen[at] = true;
        must_hold(s->values[i] == value_of(w->number, n, at), "seed %" PRIu64 ": checked_%u series %u index "
                      "%u is %g", l->c.seed, w->number, n, at, s->values[i]);
        x->samples += at < x->acked;
    }
    x->series++;
    for (unsigned i = 0; i < x->acked && x->n.job.warning_count == 0; i++)
        must_hold(seen[i], "seed %" PRIu64 ": at %.3f s: checked_%u series %u: of %u acked, index %u (time %"
                      PRId64 ") is missing and no warning says so", l->c.seed, (double)c_now_ns(&l->c) / 1e9,
                      w->number, n, x->acked, i, w->times[i]);
}

static void query_answer(struct qr_names *n)
{
    struct query *x = kl_container_of(n, struct query, n);
    struct life  *l = x->w->life;

    x->answered = true;
    if (n->job.failure.kind != PQL_OK) {
        l->refused++;
        must_hold(!x->must, "seed %" PRIu64 ": in the end: %s", l->c.seed, n->job.failure.text);
        return;
    }
    for (size_t i = 0; i < n->count; i++)
        check_series(l, x, &n->series[i]);
    if (n->job.warning_count > 0)
        l->incomplete++;
    else
        l->complete++;
    must_hold(!x->must || n->job.warning_count == 0, "seed %" PRIu64 ": in the end: %s", l->c.seed,
                  n->job.warnings[0]);
    if (n->job.warning_count == 0 && x->acked > 0)
        must_hold(x->series == SERIES, "seed %" PRIu64 ": at %.3f s: checked_%u: %u of %u series and no "
                      "warning", l->c.seed, (double)c_now_ns(&l->c) / 1e9, x->w->number, x->series, SERIES);
}

static void query_release(struct qr_job *j) { (void)j; }

static void query_start(struct life *l, struct writer *w, bool must)
{
    struct cell  *c = &l->c;
    struct query *x = kl_new(sizeof *x);
    char          selector[32];
    struct kl_err err;

    snprintf(selector, sizeof selector, "checked_%u", w->number);
    x->w = w;
    x->acked = w->acked;
    x->must = must;
    x->n.what = TSP_SEL_SERIES;
    x->n.from_ms = kl_env_now_ms(c->env) - DAYS_MS;    /* no longer ago than an older layout is asked */
    x->n.to_ms = INT64_C(4000000000000);
    qr_names_init(&x->n);
    x->n.answer = query_answer;
    x->n.job.release = query_release;
    x->n.job.partial = true;
    x->n.job.strong = true;
    snprintf(x->n.job.tenant, sizeof x->n.job.tenant, "anonymous");
    ck_assert_msg(qr_names_selector(&x->n, kl_span_str(selector), &err) == KL_OK, "%s", err.text);
    l->out = x;
    qr_submit(c->nodes[C_QUERIER].q, &x->n.job);
}

#include "tests/sim/counts.h"

static void go_on_asking(struct life *l)
{
    struct c_node *q = &l->c.nodes[C_QUERIER];
    struct kl_err  err;

    if (l->out != NULL && !l->out->answered && q->env != NULL)
        return;
    l->out = NULL;
    if (c_draw(&l->c) % 3 == 0 && q->env != NULL && !q->paused && qr_ready(q->q, &err))
        query_start(l, &l->writers[c_draw(&l->c) % WRITERS], false);
}

static void must_be_there(struct life *l, const char *when)
{
    for (unsigned k = 0; k < WRITERS; k++) {
        l->out = NULL;
        query_start(l, &l->writers[k], true);
        for (int n = 0; n < 600 && !l->out->answered; n++)
            kl_env_sim_run(l->c.sim, 100);
        ck_assert_msg(l->out->answered, "seed %" PRIu64 ": %s: no answer", l->c.seed, when);
    }
    l->out = NULL;
}

/* ---- what happens ---- */

static unsigned some(struct cell *c, unsigned from, unsigned to) { return from + (unsigned)(c_draw(c) % (to - from)); }

static int64_t a_while_ns(struct cell *c, int64_t most_ms) { return c_now_ns(c) + (int64_t)(c_draw(c) % (uint64_t)most_ms) * 1000000; }

static void dies(struct life *l, unsigned i, enum c_death how)
{
    if (l->c.nodes[i].env == NULL)
        return;
    c_kill(&l->c, i, how);
    l->c.nodes[i].until_ns = a_while_ns(&l->c, 8000);
}

/* Only the log, the KV and the store are left. */
static void all_disks_die(struct life *l)
{
    for (unsigned i = C_DOORMEN; i < C_QUERIER; i++)
        dies(l, i, C_DISK);
}

static void stands_still(struct life *l, unsigned i)
{
    struct c_node *n = &l->c.nodes[i];

    if (n->env == NULL || n->paused)
        return;
    n->paused = true;
    kl_env_sim_pause(l->c.sim, n->env, true);
    n->until_ns = a_while_ns(&l->c, 9000);
}

static void is_cut_off(struct life *l, unsigned i)
{
    struct c_node *n = &l->c.nodes[i];

    if (n->env == NULL || n->cut)
        return;
    n->cut = true;
    kl_bus_sim_cut(n->bus, true);
    n->until_ns = a_while_ns(&l->c, 9000);
}

static void recovers(struct life *l, unsigned i)
{
    struct c_node *n = &l->c.nodes[i];

    n->until_ns = 0;
    if (n->env == NULL) {
        c_start(&l->c, i);
        return;
    }
    if (n->paused)
        kl_env_sim_pause(l->c.sim, n->env, false);
    if (n->cut)
        kl_bus_sim_cut(n->bus, false);
    n->paused = n->cut = false;
}

static void flush_all(struct life *l)
{
    for (unsigned i = C_DOORMEN; i < C_QUERIER; i++)
        if (l->c.nodes[i].env != NULL)
            kit_flush(l->c.nodes[i].ing, l->c.loop);
}

static void bad_weather(struct life *l)
{
    struct kl_bus_sim_weather w = { .lose = (unsigned)(c_draw(&l->c) % 40), .slow = (unsigned)(c_draw(&l->c) % 60),
                                    .slow_ms = (int64_t)(c_draw(&l->c) % 3000) };

    kl_bus_sim_weather(l->c.servers, &w);
}

/* In some lives they are removed in place of drained: stopped or not, and what they left is tidied away. */
static void mark(struct life *l, unsigned i, bool drain)
{
    const char *word = l->c.seed % 7 == 2 ? "removed" : "drain";
    char        key[40];

    snprintf(key, sizeof key, TSP_MARK_PREFIX "%s", l->c.nodes[i].name);
    c_kv(&l->c, drain ? KL_BUS_KV_PUT : KL_BUS_KV_DELETE, key, kl_span_str(drain ? word : ""));
}

/* Somebody wishes that a member, perhaps the owner, perhaps none of that partition, makes it anew. */
static void wish_repair(struct life *l, unsigned i)
{
    char key[80];

    tsp_repair_key(key, sizeof key, (uint32_t)(c_draw(&l->c) % C_PARTITIONS), l->c.nodes[i].name);
    c_kv(&l->c, KL_BUS_KV_PUT, key, kl_span_str("1"));
}

static void spread(struct life *l)
{
    struct tsp_layout *layout = tsp_layout_new();
    struct tsp_spread  s = { .tenant = kl_span_str("anonymous"), .metric = kl_span_str("checked_0"), .spread = 2,
                             .valid_from_ms = kl_env_now_ms(l->c.env) + 1500 };
    struct kl_buf      value = { 0 };
    uint32_t           number = tsp_spread_number(s.tenant, s.metric);
    size_t             added;
    uint64_t           expect;
    char               key[64];
    struct kl_err      err;

    tsp_spread_key(number, key, sizeof key);
    ck_assert_int_eq(tsp_layout_add(layout, number, &s, 1, &value, &added, &expect, &err), KL_OK);
    c_kv(&l->c, KL_BUS_KV_PUT, key, kl_buf_span(&value));
    kl_buf_deinit(&value);
    tsp_layout_free(layout);
    l->spread = true;
}

static void split_done(struct dm_split *s) { (void)s; }

static void split(struct life *l)
{
    unsigned         i = some_doorman(&l->c);
    struct dm_split *s = kl_new(sizeof *s);

    if (i == C_DOORMEN)
        return;
    s->done = split_done;
    l->c.nodes[i].co->o.partitions = C_ROOM;
    dm_coordinator_split(l->c.nodes[i].co, s);
    l->split = true;                                   /* as far as it was asked for */
}

static void happens(struct life *l)
{
    struct cell *c = &l->c;
    unsigned     ing = some(c, C_DOORMEN, C_QUERIER), door = some(c, 0, C_DOORMEN);

    uint64_t     what = c_draw(c) % 18;

    l->events++;
    if (c->says)
        fprintf(stderr, "%9.3f event %u, of %s or %s\n", (double)c_now_ns(c) / 1e9, (unsigned)what,
                c->nodes[ing].name, c->nodes[door].name);
    switch (what) {
    case 0:  dies(l, ing, C_KILL); break;
    case 1:  dies(l, ing, C_POWER); break;
    case 2:  dies(l, ing, C_DISK); break;
    case 3:  dies(l, door, C_KILL); break;
    case 4:  dies(l, C_QUERIER, C_KILL); break;
    case 5:
    case 6:  stands_still(l, ing); break;
    case 7:  stands_still(l, door); break;
    case 8:
    case 9:  is_cut_off(l, ing); break;
    case 10: is_cut_off(l, door); break;
    case 11: is_cut_off(l, C_QUERIER); break;
    case 12: flush_all(l); break;
    case 13: bad_weather(l); break;
    case 14: mark(l, ing, c_draw(c) % 2 == 0); break;
    case 16: wish_repair(l, ing); break;
    case 17: all_disks_die(l); break;
    case 15:
        if (c->seed % 5 == 3) {                        /* somebody deletes who is there and has what */
            kl_bus_sim_wipe(c->servers, TSP_NODE_PREFIX);
            kl_bus_sim_wipe(c->servers, TSP_LEASE_PREFIX);
            kl_bus_sim_wipe(c->servers, TSP_MARK_PREFIX);
            kl_bus_sim_wipe(c->servers, TSP_PLACEMENT_KEY);
            break;
        }
        /* fall through */
    default:
        if (!l->spread && c_draw(c) % 2 == 0)
            spread(l);
        else if (!l->split)
            split(l);
        else
            flush_all(l);
    }
}

static void pass(struct life *l, int64_t for_ms)
{
    int64_t until_ns = c_now_ns(&l->c) + for_ms * 1000000;

    while (c_now_ns(&l->c) < until_ns) {
        kl_env_sim_run(l->c.sim, 50);
        for (unsigned i = 0; i < C_NODES; i++)
            if (l->c.nodes[i].until_ns != 0 && c_now_ns(&l->c) >= l->c.nodes[i].until_ns)
                recovers(l, i);
        for (unsigned k = 0; k < WRITERS; k++)
            go_on_writing(l, &l->writers[k]);
        go_on_asking(l);
        go_on_counting(l);
    }
}

static void all_recover(struct life *l)
{
    kl_bus_sim_weather(l->c.servers, &(struct kl_bus_sim_weather){ 0 });
    for (unsigned i = 0; i < C_NODES; i++) {
        recovers(l, i);
        if (i >= C_DOORMEN && i < C_QUERIER)
            mark(l, i, false);
    }
}

static void write_to_the_end(struct life *l)
{
    for (unsigned k = 0; k < WRITERS; k++) {
        struct writer *w = &l->writers[k];

        for (int n = 0; n < 1200 && (w->acked < w->sent || w->out != NULL || w->sent == 0); n++) {
            if (w->out != NULL || w->acked < w->sent || w->sent == 0)
                go_on_writing(l, w);
            if (w->out == NULL && w->acked == w->sent)
                break;
            kl_env_sim_run(l->c.sim, 50);
            if (w->out != NULL && w->out->done && w->out->p.status == 204) {
                w->acked = w->sent;
                w->out = NULL;
                break;
            }
        }
        ck_assert_msg(w->acked == w->sent && w->sent > 0, "seed %" PRIu64 ": nothing is taken any more", l->c.seed);
    }
}

/* Ten years before or after all others. */
static int64_t wrong_clock(struct cell *c) { return (c_draw(c) % 2 == 0 ? 1 : -1) * INT64_C(315576000000); }

static uint64_t counted, pushed;                       /* of all lives */

static void live(uint64_t seed)
{
    struct life *l = kl_new(sizeof *l);
    unsigned     lost_in_time = seed % 6 == 5 ? (unsigned)(seed / 6 % C_NODES) : C_NODES;

    c_init(&l->c, seed);
    l->c.repairs_per_hour = 2;
    for (unsigned k = 0; k < WRITERS; k++)
        l->writers[k] = (struct writer){ .life = l, .number = k };
    for (unsigned i = 0; i < C_NODES; i++) {
        l->c.nodes[i].ahead_ms = i == lost_in_time ? wrong_clock(&l->c) : (int64_t)(c_draw(&l->c) % 400) - 200;
        c_start(&l->c, i);
    }
    c_settle(&l->c, "at the beginning");
    for (unsigned round = 0; round < ROUNDS; round++) {
        pass(l, (int64_t)(c_draw(&l->c) % 6000));
        happens(l);
    }
    all_recover(l);
    pass(l, 1000);
    write_to_the_end(l);
    c_settle(&l->c, "at the end");
    must_be_there(l, "at the end");
    flush_all(l);
    kl_env_sim_run(l->c.sim, 5000);
    must_be_there(l, "after a flush");
    for (unsigned i = C_DOORMEN; i < C_QUERIER; i++) { /* whoever else has to answer */
        kl_env_sim_pause(l->c.sim, l->c.nodes[i].env, true);
        kl_env_sim_run(l->c.sim, 3 * C_SILENT_MS);
        must_be_there(l, "without one ingestor");
        kl_env_sim_pause(l->c.sim, l->c.nodes[i].env, false);
        kl_env_sim_run(l->c.sim, 1000);
        c_settle(&l->c, "after it came back");
    }
    if (getenv("KOA_TELL") != NULL)
        printf("seed %" PRIu64 ": %u events in %.0f s; %u + %u batches; answers: %u complete, %u with warnings, %u "
               "refused; %u counts, %u of them pushed; %u cuts found the same, %u members made anew\n", seed, l->events,
               (double)c_now_ns(&l->c) / 1e9, l->writers[0].acked / BATCH,
               l->writers[1].acked / BATCH, l->complete, l->incomplete, l->refused, l->counts, l->pushed, l->c.same, l->c.repaired);
    must_hold(l->c.differing == 0, "seed %" PRIu64 ": members that are alike were said to differ: %s", seed,
              l->c.difference);
    ck_assert_msg(l->complete > 0, "seed %" PRIu64 ": no answer was complete", seed);
    counted += l->counts;
    pushed += l->pushed;
}

static unsigned lives(void)
{
    const char *text = getenv("KOA_SIM_SEEDS");

    return text == NULL ? LIVES : (unsigned)strtoul(text, NULL, 10);
}

START_TEST(whatever_happens_every_acked_sample_is_there_exactly_once_and_answers_say_what_they_miss)
{
    if (kit_lives(_i, AT_ONCE, lives(), live))
        ck_assert_msg(pushed > 0 && pushed < counted, "%" PRIu64 " counts, %" PRIu64 " of them pushed", counted, pushed);
}
END_TEST

/* Each ingestor loses its disk in turn; the owner's snapshots fill it, also while the network loses a part. */
START_TEST(an_empty_disk_is_filled_with_the_owner_s_snapshots)
{
    struct life *l = kl_new(sizeof *l);

    c_init(&l->c, 4000 + (uint64_t)_i);
    for (unsigned k = 0; k < WRITERS; k++)
        l->writers[k] = (struct writer){ .life = l, .number = k };
    for (unsigned i = 0; i < C_NODES; i++)
        c_start(&l->c, i);
    c_settle(&l->c, "at the beginning");
    for (unsigned i = C_DOORMEN; i < C_QUERIER; i++) {
        unsigned before = l->c.peer_snapshots;

        pass(l, 40000);                                /* snapshots are made, and chunks spilled */
        if (i == C_DOORMEN + 1)
            kl_bus_sim_weather(l->c.servers, &(struct kl_bus_sim_weather){ .lose = 30 });
        for (int tries = 0; tries < 5 && l->c.peer_snapshots == before; tries++) {     /* owners may be cut off, too */
            c_kill(&l->c, i, C_DISK);
            kl_env_sim_run(l->c.sim, 2 * C_SILENT_MS); /* others own what it had */
            c_start(&l->c, i);
            pass(l, 10000);
        }
        kl_bus_sim_weather(l->c.servers, &(struct kl_bus_sim_weather){ 0 });
        c_settle(&l->c, "with an empty disk");
        ck_assert_msg(l->c.peer_snapshots > before, "%s: no snapshot came", l->c.nodes[i].name);
    }
    write_to_the_end(l);
    for (unsigned i = C_DOORMEN; i < C_QUERIER; i++) { /* and each of them can answer for the others */
        kl_env_sim_pause(l->c.sim, l->c.nodes[i].env, true);
        kl_env_sim_run(l->c.sim, 3 * C_SILENT_MS);
        must_be_there(l, "without one ingestor");
        kl_env_sim_pause(l->c.sim, l->c.nodes[i].env, false);
        kl_env_sim_run(l->c.sim, 1000);
        c_settle(&l->c, "after it came back");
    }
}
END_TEST

/* All ingestors lose their disks at once, so nobody has a snapshot to give: the store has. */
START_TEST(what_no_disk_has_any_more_comes_from_the_store_and_the_log)
{
    struct life *l = kl_new(sizeof *l);
    unsigned     before;

    c_init(&l->c, 7000 + (uint64_t)_i);
    for (unsigned k = 0; k < WRITERS; k++)
        l->writers[k] = (struct writer){ .life = l, .number = k };
    for (unsigned i = 0; i < C_NODES; i++)
        c_start(&l->c, i);
    c_settle(&l->c, "at the beginning");
    for (unsigned round = 0; round < 4; round++) {
        pass(l, 60000);                                /* snapshots are made, and put */
        if (round % 2 == 1)
            flush_all(l);
        before = l->c.stored_snapshots;
        for (unsigned i = C_DOORMEN; i < C_QUERIER; i++)
            c_kill(&l->c, i, C_DISK);
        kl_env_sim_run(l->c.sim, C_SILENT_MS);
        for (unsigned i = C_DOORMEN; i < C_QUERIER; i++)
            c_start(&l->c, i);
        pass(l, 5000);
        c_settle(&l->c, "without their disks");
        ck_assert_msg(l->c.stored_snapshots > before, "round %u: no snapshot came", round);
        must_be_there(l, "without their disks");
    }
    write_to_the_end(l);
    must_be_there(l, "at the end");
    ck_assert_msg(l->c.differing == 0, "members that are alike were said to differ: %s", l->c.difference);
}
END_TEST

/* A doorman ten years off starts, when the keys of all ingestors were deleted and none of them is heard. */
START_TEST(a_doorman_with_a_wrong_clock_that_finds_nobody_refuses_no_good_sample_for_good)
{
    struct life *l = kl_new(sizeof *l);

    c_init(&l->c, 8000 + (uint64_t)_i);
    for (unsigned k = 0; k < WRITERS; k++)
        l->writers[k] = (struct writer){ .life = l, .number = k };
    l->c.nodes[0].ahead_ms = wrong_clock(&l->c);
    for (unsigned i = 0; i < C_NODES; i++)
        c_start(&l->c, i);
    c_settle(&l->c, "at the beginning");
    for (unsigned round = 0; round < 6; round++) {
        pass(l, 3000);
        for (unsigned i = C_DOORMEN; i < C_QUERIER; i++) {
            stands_still(l, i);
            l->c.nodes[i].until_ns = a_while_ns(&l->c, 5000) + INT64_C(4000000000);
        }
        kl_bus_sim_wipe(l->c.servers, TSP_NODE_PREFIX);
        if (round % 2 == 0)
            kl_bus_sim_wipe(l->c.servers, TSP_PLACEMENT_KEY);
        if (round != 3) {                              /* then it goes on, and remembers */
            c_kill(&l->c, 0, C_KILL);
            c_start(&l->c, 0);
        }
        pass(l, 15000);
    }
    all_recover(l);
    pass(l, 1000);
    write_to_the_end(l);
    c_settle(&l->c, "at the end");
    must_be_there(l, "at the end");
}
END_TEST

static bool pointed;                                   /* a catalogue's pointer is on its way */
static void (*kv_before)(struct kl_bus *b, struct kl_bus_kv *op);
static void kv_noted(struct kl_bus *b, struct kl_bus_kv *op)
{
    pointed = pointed || (op->kind == KL_BUS_KV_PUT && strncmp(op->key, "catalogue", 9) == 0);
    kv_before(b, op);
}

/* An owner whom nobody can follow is cut off while it moves a catalogue's pointer, and has the same lease again. */
START_TEST(what_a_commit_without_an_answer_may_have_named_stays_in_the_store)
{
    struct life *l = kl_new(sizeof *l);

    c_init(&l->c, 6000 + (uint64_t)_i);
    for (unsigned k = 0; k < WRITERS; k++)
        l->writers[k] = (struct writer){ .life = l, .number = k };
    for (unsigned i = 0; i < C_NODES; i++)
        c_start(&l->c, i);
    c_settle(&l->c, "at the beginning");
    for (unsigned i = C_DOORMEN + 1; i < C_QUERIER; i++)
        c_kill(&l->c, i, C_KILL);
    kv_before = l->c.nodes[C_DOORMEN].bus->kv;
    l->c.nodes[C_DOORMEN].bus->kv = kv_noted;
    for (unsigned round = 0; round < 40; round++) {
        int64_t until = c_now_ns(&l->c) + INT64_C(20000000000);

        pass(l, 500 + (int64_t)(c_draw(&l->c) % 1000));
        if (round % 2 == 0)
            flush_all(l);
        pointed = false;
        while (!pointed && kl_env_sim_step(l->c.sim, until))
            ;
        for (unsigned k = (unsigned)(c_draw(&l->c) % 20); k > 0; k--)
            kl_env_sim_step(l->c.sim, until);
        is_cut_off(l, C_DOORMEN);
        pass(l, 10000);
    }
    all_recover(l);
    pass(l, 1000);
    write_to_the_end(l);
    c_settle(&l->c, "at the end");
    must_be_there(l, "at the end");
}
END_TEST

/* A killed process frees nothing, and there are many of them here. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "detect_leaks=0"; }

int main(void)
{
    TCase *t = tcase_create("lives");

    tcase_set_timeout(t, 600);
    tcase_add_loop_test(t, whatever_happens_every_acked_sample_is_there_exactly_once_and_answers_say_what_they_miss,
                        0, (int)((lives() + AT_ONCE - 1) / AT_ONCE));
    tcase_add_loop_test(t, an_empty_disk_is_filled_with_the_owner_s_snapshots, 0, 2);
    tcase_add_loop_test(t, what_no_disk_has_any_more_comes_from_the_store_and_the_log, 0, 3);
    tcase_add_loop_test(t, a_doorman_with_a_wrong_clock_that_finds_nobody_refuses_no_good_sample_for_good, 0, 2);
    tcase_add_loop_test(t, what_a_commit_without_an_answer_may_have_named_stays_in_the_store, 0, 4);
    return kit_run("cluster", t);
}
