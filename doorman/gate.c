/* A gate: its birth and end, the placement table it goes by, and the pushes that wait in it. */
#include "doorman/deltas.h"
#include "doorman/dm_priv.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PUSHES_QUEUED_MAX = 4096, REMEMBERED_DEFAULT = 2 << 20, HIST_ARENA_BYTES = 4 << 20,
       SYMBOLS_ARENA_BYTES = 40 << 20 };
#define SPLIT_BEGUN_NS (INT64_C(3600) * 1000000000)

struct dm_part *dm_gate_part(struct dm_gate *g, uint32_t number)
{
    if (g->parts[number] == NULL) {
        g->parts[number] = kl_new(sizeof *g->parts[number]);
        g->parts[number]->number = number;
        g->parts[number]->epoch = 1;                   /* a row's 0 is: never */
    }
    return g->parts[number];
}

/* ---- the placement table ---- */

/* The spreads that writers go by may have changed: then every series is placed anew. */
static void look_at_steps(struct dm_gate *g)
{
    uint32_t steps = tsp_placement_steps(g->placement, g->placing_ms, &g->next_step_ms);

    if (steps != g->steps)
        g->generation++;
    g->steps = steps;
}

/* Partitions of which this process has no log are not written to, and none of the others either: a push
 * would be taken in part only. */
static bool too_many(struct dm_gate *g, struct tsp_placement *p)
{
    uint32_t count = tsp_placement_partitions(p);
    bool     many = g->options->partitions > 0 && count > g->options->partitions;

    if (many && atomic_load(&g->too_many) != count)
        kl_logf(g->log, KL_ERROR, "the placement table has %" PRIu32 " partitions, the configuration room "
                "for %" PRIu32 ": pushes are refused until this doorman is restarted with partitions: %"
                PRIu32, count, g->options->partitions, count);
    atomic_store(&g->too_many, many ? count : 0);
    return many;
}

/* A split that has been known for so long has begun, whatever this machine takes for the time: readers
 * stop looking in the old places after a day. */
static void look_at_split(struct dm_gate *g)
{
    const struct tsp_split *splits;
    unsigned                count = tsp_placement_splits(g->placement, &splits);
    int64_t                 now_ns = kl_env_mono_ns(g->env);

    if (count != g->split_count) {
        g->split_count = count;
        g->split_seen_ns = now_ns;
    }
    if (count > 0 && g->placing_ms < splits[count - 1].valid_from_ms &&
        now_ns - g->split_seen_ns >= SPLIT_BEGUN_NS)
        g->placing_ms = splits[count - 1].valid_from_ms;
}

static void take_table(struct dm_gate *g, struct tsp_placement *p)
{
    if (too_many(g, p)) {
        tsp_placement_free(p);
        return;
    }
    if (g->placement == NULL || tsp_placement_partitions(g->placement) != tsp_placement_partitions(p))
        g->generation++;
    tsp_placement_free(g->placement);
    g->placement = p;
    if (g->placing_ms < kl_env_now_ms(g->env))
        g->placing_ms = kl_env_now_ms(g->env);
    look_at_steps(g);
    dm_room_placed(g);
    atomic_store(&g->placed, true);
}

static void on_placement(struct kl_bus_watch *w, const char *key, struct kl_span value,
                         uint64_t revision)
{
    struct dm_gate       *g = kl_container_of(w, struct dm_gate, watch);
    struct tsp_placement *p;
    struct kl_err         err;

    if (value.at == NULL && strcmp(key, TSP_PLACEMENT_KEY) == 0)
        kl_logf(g->log, KL_ERROR, "the placement table was deleted: going on with the last one");
    if (tsp_layout_see(g->layout, key, value, revision, &err) &&
        (p = tsp_layout_table(g->layout)) != NULL)
        take_table(g, p);
    else if (err.code != KL_OK)
        kl_logf(g->log, KL_ERROR, "%s, revision %" PRIu64 ": %s", key, revision, err.text);
}

static void on_current(struct kl_bus_watch *w) { (void)w; }

static void begin(struct kl_env_task *task)
{
    struct dm_gate *g = kl_container_of(task, struct dm_gate, begin);

    g->watch = (struct kl_bus_watch){ .prefix = TSP_PLACEMENT_KEY, .loop = g->loop,
                                      .change = on_placement, .current = on_current };
    g->bus->watch(g->bus, &g->watch);
    dm_room_begin(g);
    dm_mark_begin(g);
    dm_active_begin(g);
    if (g->ha != NULL)
        dm_ha_begin(g->ha);
    if (g->peers != NULL)
        dm_peers_begin(g->peers);
}

static void end(struct kl_env_task *task)
{
    struct dm_gate *g = kl_container_of(task, struct dm_gate, end);

    g->ending = true;
    g->bus->unwatch(g->bus, &g->watch);
    dm_room_end(g);
    dm_mark_end(g);
    dm_active_end(g);
    if (g->ha != NULL)
        dm_ha_end(g->ha);
    if (g->peers != NULL)
        dm_peers_end(g->peers);
    dm_batches_end(g);
}

/* ---- tickets ---- */

void dm_ticket_fail(struct dm_ticket *t, unsigned status, unsigned retry_after_s, const char *fmt,
                    ...)
{
    va_list ap;

    if (t->status != 0)
        return;
    t->status = status;
    t->retry_after_s = retry_after_s;
    va_start(ap, fmt);
    vsnprintf(t->words, sizeof t->words, fmt, ap);
    va_end(ap);
}

/* What of a push that failed is in the log, for when it comes again: not of one that the log has less
 * of than was sent, since a later time or leader may let in what this one did not. */
static void remember(struct dm_gate *g, struct dm_ticket *t)
{
    bool any = false;

    if (t->map_words == 0 || t->timeless || (t->key.hi | t->key.lo) == 0)
        return;
    if (t->status == 0) {
        dm_acked_drop(g->acked, t->key);
        return;
    }
    if (t->report.total > 0 || t->deduplicated > 0 || t->forgets != g->forgets)
        return;
    for (size_t i = 0; i < t->map_words; i++) {
        t->there[i] |= t->touched[i] & ~t->failed[i];
        any = any || t->there[i] != 0;
    }
    if (any && t->status == 503)
        dm_acked_put(g->acked, t->key, g->now_s, t->there, t->map_words);
}

/* A failure outranks a refusal: told 503, the sender comes again with all of it; told 400, never. */
static void answer(struct dm_gate *g, struct dm_ticket *t)
{
    struct dm_push *p = t->push;

    p->refused = t->report.total;
    if (t->status != 0) {
        p->status = t->status;
        p->retry_after_s = t->retry_after_s;
        snprintf(p->text, sizeof p->text, "%s", t->words);
    } else if (t->report.total > 0) {
        p->status = 400;
        dm_report_write(&t->report,
                        p->samples_stored + p->hists_stored + p->exemplars_stored, p->text,
                        sizeof p->text);
    } else {
        p->status = 204;
        p->deduplicated = t->deduplicated > 0 &&
                          p->samples_stored + p->hists_stored + p->exemplars_stored == 0;
    }
    kl_count(g->counters->c[DM_C_DROPPED], t->dropped);
    kl_count(g->counters->c[DM_C_DEDUPLICATED], t->deduplicated);
    if (p->status != 503) {
        kl_count(g->counters->c[DM_C_SAMPLES], p->samples_stored);
        kl_count(g->counters->c[DM_C_HISTS], p->hists_stored);
        kl_count(g->counters->c[DM_C_EXEMPLARS], p->exemplars_stored);
    }
    for (int i = 0; i < DM_REASONS && t->report.total > 0; i++)
        if (t->report.counts[i] > 0)
            kl_count(g->counters->by_reason[i], t->report.counts[i]);
    if (g->counters->push_seconds != NULL)
        kl_metric_observe(g->counters->push_seconds,
                          (double)(kl_env_mono_ns(g->env) - t->begun_ns) / 1e9);
    remember(g, t);
    atomic_fetch_sub(&p->share->inflight_bytes, p->charged);
    free(t);
    if (p->everywhere && p->status == 204)
        dm_everywhere(g, p);
    else
        p->done(p);
}

void dm_ticket_release(struct dm_gate *g, struct dm_ticket *t)
{
    assert(t->pending > 0);
    if (--t->pending == 0)
        answer(g, t);
}

/* ---- pushes ---- */

static void tell(struct dm_gate *g)
{
    uint64_t evicted = dm_table_evicted(g->table);

    kl_count(g->counters->c[DM_C_HITS], g->hits);
    kl_count(g->counters->c[DM_C_MISSES], g->misses);
    kl_count(g->counters->c[DM_C_EVICTED], evicted - g->evicted_told);
    kl_gauge_set(g->remembered_gauge, dm_table_count(g->table));
    kl_gauge_set(g->active_gauge, (double)g->active);
    kl_gauge_set(g->deltas_gauge, (double)dm_deltas_count(g->deltas));
    g->hits = g->misses = 0;
    g->evicted_told = evicted;
}

static void read_push(struct dm_gate *g, struct dm_ticket *t, struct kl_span body)
{
    switch (t->push->format) {
    case DM_RW1:         dm_take_rw1(g, t, body); break;
    case DM_RW2:         dm_take_rw2(g, t, body); break;
    case DM_TEXT:        dm_take_text(g, t, body, false); break;
    case DM_OPENMETRICS: dm_take_text(g, t, body, true); break;
    case DM_INFLUX:      dm_take_influx(g, t, body); break;
    case DM_JSONL:       dm_take_jsonl(g, t, body); break;
    case DM_CSV:         dm_take_csv(g, t, body); break;
    case DM_OTLP:        dm_take_otlp(g, t, body); break;
    case DM_FORMATS:     break;
    }
}

/* This doorman's part of what all may let in. */
static double rate_of(const struct dm_gate *g, const struct dm_limits *l)
{
    return l->samples_per_s / atomic_load_explicit(&g->doorman->doormen, memory_order_relaxed);
}

/* What can be said before anything is read. False: the ticket failed. */
static bool admit(struct dm_gate *g, struct dm_ticket *t, const struct dm_sender *s)
{
    const struct dm_limits *l = s->limits;
    int64_t wait_ns = dm_rate_wait_ns(s->own->share, t->begun_ns, rate_of(g, l), l->burst_samples);

    if (wait_ns > 0) {
        kl_count(g->counters->c[DM_C_LIMITED], 1);
        dm_ticket_fail(t, 429, (unsigned)((wait_ns + 999999999) / 1000000000),
                       "more samples than limits.samples_per_s: %.0f a second\n", l->samples_per_s);
        return false;
    }
    if (s->own->policy->ha && !dm_ha_known(g->ha)) {
        dm_ticket_fail(t, 503, 1, "the leaders of HA pairs are not known yet");
        return false;
    }
    return true;
}

/* It may have to wait for the leader of its pair: then it is read again. */
static void read_all(struct dm_gate *g, struct dm_ticket *t, const struct dm_sender *s)
{
    int64_t begin_ns = t->push->trace.on ? kl_env_mono_ns(g->env) : 0;

    g->reading = t;
    read_push(g, t, kl_span(t->push->body, t->push->body_size));
    g->reading = NULL;
    if (t->waits_on != NULL && t->status == 0) {
        dm_ha_wait(t->waits_on, t);
        return;
    }
    if (t->push->trace.on)
        dm_told_read(g, t, begin_ns);
    dm_rate_spend(s->own->share, t->begun_ns, rate_of(g, s->limits), t->seen);
    dm_gate_finish(g, t);
}

/* The body goes; what waits for the log from here on is about this much. */
static void recharge(struct dm_push *p)
{
    uint64_t waits = 24 * p->samples_stored + 256 * (p->hists_stored + p->exemplars_stored);

    if (waits < p->charged) {
        atomic_fetch_sub(&p->share->inflight_bytes, p->charged - (size_t)waits);
        p->charged = (size_t)waits;
    }
}

void dm_gate_finish(struct dm_gate *g, struct dm_ticket *t)
{
    struct dm_push *p = t->push;

    tell(g);
    free(p->body);
    p->body = NULL;
    kl_budget_give(&g->doorman->inflight, p->body_size);
    recharge(p);
    dm_ticket_release(g, t);
}

/* Where series lie and how the body is read are part of what a retry must have in common. */
static struct kl_fp key_of(const struct dm_gate *g, const struct dm_push *p)
{
    const struct dm_import *m = &p->import;
    struct kl_span          csv = m->csv != NULL ? tsp_csv_format_text(m->csv) : kl_span("", 0);
    uint64_t parts[] = { p->sent.hi, p->sent.lo, kl_hash64(p->tenant, strlen(p->tenant)), p->format,
                         g->generation, g->policies_turn, (uint64_t)m->unit_ns, kl_hash64(m->db.at, m->db.size),
                         kl_hash64(csv.at, csv.size) };

    return kl_hash128(parts, sizeof parts);
}

static struct dm_ticket *ticket_new(struct dm_gate *g, struct dm_push *p)
{
    size_t            words = g->placement == NULL ? 0 : (tsp_placement_partitions(g->placement) + 63) / 64;
    struct dm_ticket *t = kl_new(sizeof *t + 3 * words * sizeof t->maps[0]);

    t->push = p;
    t->turn = g->policies_turn;
    t->forgets = g->forgets;
    t->map_words = words;
    t->touched = t->maps;
    t->failed = t->maps + words;
    t->there = t->maps + 2 * words;
    if ((p->sent.hi | p->sent.lo) != 0 && words > 0) {
        t->key = key_of(g, p);
        if (dm_acked_find(g->acked, t->key, g->now_s, t->there, words)) {
            kl_count(g->counters->c[DM_C_RESUMED], 1);
            for (uint32_t n = 0; n < words * 64 && n < TSP_PARTITIONS_MAX; n++)
                if (dm_map_has(t->there, n) && g->parts[n] != NULL)
                    dm_push_acked(p, n, g->parts[n]->last_seq);        /* not before it */
        }
    }
    return t;
}

void dm_gate_reread(struct dm_gate *g, struct dm_ticket *t)
{
    struct dm_push  *p = t->push;
    struct dm_sender s;

    if (t->turn != g->policies_turn || t->forgets != g->forgets) {
        /* Its series may lie elsewhere now, or a log be another: no part is known. */
        t->turn = g->policies_turn;
        t->key = (struct kl_fp){ 0 };
        memset(t->there, 0, t->map_words * sizeof t->there[0]);
    }
    t->waits_on = NULL;
    t->pair = (struct dm_ha_pair){ 0 };
    memset(&t->report, 0, sizeof t->report);
    t->seen = t->dropped = t->deduplicated = 0;
    p->samples_stored = p->hists_stored = p->exemplars_stored = 0;
    p->samples_passed_over = p->hists_passed_over = p->exemplars_passed_over = 0;
    p->points_refused = 0;
    if (g->ending)
        dm_ticket_fail(t, 503, 1, "the doorman is stopping");
    else if ((tsp_placement_partitions(g->placement) + 63) / 64 != t->map_words)
        dm_ticket_fail(t, 503, 1, "the placement table has changed");
    else if (++t->waits > DM_HA_WAITS_MAX)
        dm_ticket_fail(t, 503, 1, "the leader of an HA pair changes too fast");
    else if (!dm_sender_of(g, t, &s))
        dm_ticket_fail(t, 503, 1, "too many tenants");
    if (t->status == 0)
        read_all(g, t, &s);
    else
        dm_gate_finish(g, t);
}

/* A wrong one would take good samples for too old or too new, and refuse them for good. */
static bool clock_is_right(const struct dm_gate *g, struct kl_err *err)
{
    return dm_clock_check(g->options->clock_off_ms, err) == KL_OK;
}

void dm_gate_take(struct kl_env_task *task)
{
    struct dm_push   *p = kl_container_of(task, struct dm_push, task);
    struct dm_gate   *g = p->gate;
    int64_t           now_ns = kl_env_mono_ns(g->env);
    struct dm_ticket *t;
    struct dm_sender  s;
    struct kl_err     wrong;

    g->now_s = (uint32_t)((now_ns - g->born_ns) / 1000000000);
    if (g->placing_ms < p->now_ms)                     /* never back: a place once left is left */
        g->placing_ms = p->now_ms;
    if (g->placement != NULL)
        look_at_split(g);
    if (g->placement != NULL && g->placing_ms >= g->next_step_ms)
        look_at_steps(g);
    dm_policies_take(g);
    t = ticket_new(g, p);
    t->serial = ++g->ticket_serial;
    t->begun_ns = now_ns;
    t->pending = 1;                                    /* until it has been read */
    if (g->ending)
        dm_ticket_fail(t, 503, 1, "the doorman is stopping");
    else if (g->options->clock_off_ms != NULL && !clock_is_right(g, &wrong))
        dm_ticket_fail(t, 503, wrong.code == KL_EAGAIN ? 1 : 10, "%s", wrong.text);
    else if (atomic_load(&g->too_many) > 0)
        dm_ticket_fail(t, 503, 10, "this doorman has room for fewer partitions than there are: restart it "
                       "with the number of the placement table");
    else if (g->placement == NULL)
        dm_ticket_fail(t, 503, 1, "the placement table is not known yet");
    else if (!dm_sender_of(g, t, &s))
        dm_ticket_fail(t, 503, 1, "too many tenants");
    if (t->status == 0 && admit(g, t, &s))
        read_all(g, t, &s);
    else
        dm_gate_finish(g, t);
}

/* ---- birth and end ---- */

struct dm_gate *dm_gate_new(struct dm_doorman *d, unsigned number)
{
    struct dm_gate *g = kl_new(sizeof *g);
    uint32_t        most = d->options.remembered_series_max;
    char            name[24];

    g->doorman = d;
    g->options = &d->options;
    g->counters = &d->counters;
    g->env = d->env;
    g->bus = d->bus;
    g->log = d->options.log;
    g->born_ns = kl_env_mono_ns(g->env);
    g->env->random->fill(g->env->random, g->who.bytes, sizeof g->who.bytes);
    for (size_t i = 0; i < sizeof g->who.bytes; i++)
        snprintf(g->who_hex + 2 * i, 3, "%02x", g->who.bytes[i]);
    g->layout = tsp_layout_new();
    g->next_step_ms = INT64_MAX;
    g->table = dm_table_new(most == 0 ? REMEMBERED_DEFAULT : most);
    g->acked = dm_acked_new();
    g->tenants = dm_tenants_new();
    dm_active_watch(g);
    g->policies_turn = atomic_load(&d->policies_turn);
    g->policies = dm_policies_look(d);                 /* at least as new as the turn */
    /* Where pairs may come to be while we run, their leaders are known by then. */
    g->ha = d->options.live != NULL || dm_policies_ha(g->policies) ? dm_ha_new(g) : NULL;
    g->remembered_gauge = dm_gate_gauge(d, number, "koalemos_doorman_remembered_series",
                                        "Series that a gate remembers.");
    g->active_gauge = dm_gate_gauge(d, number, "koalemos_doorman_active_series",
                                    "Series that came to a gate in the last ten to twenty minutes.");
    g->deltas_gauge = dm_gate_gauge(d, number, "koalemos_doorman_delta_series",
                                    "Series of delta temporality whose sums a gate remembers.");
    g->text = tsp_text_new();
    g->influx = tsp_influx_new();
    g->jsonl = tsp_jsonl_new();
    g->csv = tsp_csv_new();
    kl_buf_init(&g->canonical, 2 * KL_LABELS_BYTES_MAX);
    kl_buf_init(&g->name, 2 * TSP_INFLUX_LINE_MAX);
    kl_buf_init(&g->meta, 4 * KL_LABELS_BYTES_MAX);
    kl_buf_init(&g->exemplar, 2 * KL_LABELS_BYTES_MAX);
    kl_buf_init(&g->numbers, 4 * DM_HIST_BUCKETS_MAX * sizeof(double));
    g->deltas = dm_deltas_new(d->options.delta_bytes_max);
    kl_arena_init(&g->arena, HIST_ARENA_BYTES);
    kl_arena_init(&g->symbols, SYMBOLS_ARENA_BYTES);
    kl_arena_init(&g->shared, SYMBOLS_ARENA_BYTES);
    kl_arena_init(&g->relabelled, 4 * KL_LABELS_BYTES_MAX);
    g->begin.run = begin;
    g->end.run = end;
    g->flush.run = dm_batch_flush;
    snprintf(name, sizeof name, "gate-%u", number);
    g->loop = g->env->sched->loop_new(g->env->sched, name, PUSHES_QUEUED_MAX);
    g->env->sched->lend(g->loop);
    if (number == 0 && d->options.heartbeat_ms > 0)
        g->peers = dm_peers_new(d, g->loop, g->who_hex);
    g->env->sched->post(g->loop, &g->begin);
    return g;
}

void dm_gate_free(struct dm_gate *g)
{
    g->env->sched->post(g->loop, &g->end);
    g->env->sched->loop_free(g->loop);
    dm_policies_free(g->policies);
    dm_ha_free(g->ha);
    dm_peers_free(g->peers);
    dm_batches_free(g);
    for (uint32_t i = 0; i < TSP_PARTITIONS_MAX; i++)
        free(g->parts[i]);
    tsp_placement_free(g->placement);
    tsp_layout_free(g->layout);
    tsp_text_free(g->text);
    tsp_influx_free(g->influx);
    tsp_jsonl_free(g->jsonl);
    tsp_csv_free(g->csv);
    dm_room_deinit(g);
    dm_table_free(g->table);
    dm_acked_free(g->acked);
    dm_tenants_free(g->tenants);
    kl_buf_deinit(&g->canonical);
    kl_buf_deinit(&g->name);
    kl_buf_deinit(&g->meta);
    kl_buf_deinit(&g->exemplar);
    kl_buf_deinit(&g->numbers);
    dm_deltas_free(g->deltas);
    kl_arena_deinit(&g->arena);
    kl_arena_deinit(&g->symbols);
    kl_arena_deinit(&g->shared);
    kl_arena_deinit(&g->relabelled);
    free(g);
}
