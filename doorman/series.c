/*
 * One series of a push: known, it costs a look-up; new, it is inspected, made canonical, given a
 * fingerprint and a place. Also what of a series is put into a batch.
 */
#include "doorman/dm_priv.h"

#include <string.h>

bool dm_sender_of(struct dm_gate *g, struct dm_ticket *t, struct dm_sender *s)
{
    struct dm_tenant *own;

    s->tenant = kl_span_str(t->push->tenant);
    own = dm_tenants_of(g->tenants, s->tenant);
    if (own == NULL) {
        /* More tenants than numbers: all series are new again, under new refs. Rare, and only dear. */
        dm_table_reset(g->table);
        dm_tenants_reset(g->tenants);
        own = dm_tenants_of(g->tenants, s->tenant);
    }
    if (own == NULL)
        return false;
    dm_active_tenant(g, own);
    s->own = own;
    s->tenant_number = own->number;
    s->tenant_hash = own->hash;
    s->limits = &own->policy->limits;
    return true;
}

struct kl_fp dm_key_of(const struct dm_sender *s, enum dm_format format, struct kl_fp k)
{
    k.hi ^= s->tenant_hash;
    k.lo ^= s->tenant_hash << 32 | s->tenant_hash >> 32;
    k.lo += (uint64_t)format * 0x9e3779b97f4a7c15u;
    return k;
}

struct kl_fp dm_key(const struct dm_sender *s, enum dm_format format, struct kl_span raw)
{
    return dm_key_of(s, format, kl_hash128(raw.at, raw.size));
}

/* The labels as sent, in the source's builder or else the gate's. */
static enum kl_code pairs_of(struct dm_series *s, struct kl_labels_builder **b, struct kl_err *err)
{
    *b = s->source.pairs;
    if (*b != NULL)
        return KL_OK;
    *b = &s->gate->builder;
    kl_labels_start(*b);
    if (s->source.make != NULL)
        return s->source.make(s->source.make_ctx, *b, err);
    return s->source.rw1 != NULL ? tsp_rw1_labels(s->source.rw1, *b, err)
                                 : tsp_rw2_labels(s->source.rw2_in, s->source.rw2, *b, err);
}

void dm_series_refuse(struct dm_series *s, enum dm_reason why, uint64_t count)
{
    struct kl_labels_builder *b = NULL;
    struct kl_err             err;

    if (count == 0)
        return;
    if (s->ticket->report.counts[why] == 0)            /* the first: its name is wanted */
        pairs_of(s, &b, &err);
    dm_report_add(&s->ticket->report, why, count, b, "");
}

/* Of a series that came from a pair. */
static void without_replica(struct kl_labels_builder *b, struct kl_span replica)
{
    for (size_t i = 0; i < b->count; i++)
        if (kl_span_eq(b->pairs[i].name, replica)) {
            memmove(&b->pairs[i], &b->pairs[i + 1], (--b->count - i) * sizeof b->pairs[0]);
            return;
        }
}

/* Into a builder of the gate's own: the source's stays as it is, since one line may be many series. */
static void copy_pairs(struct dm_gate *g, struct kl_labels_builder **b)
{
    g->changed.count = (*b)->count;
    memcpy(g->changed.pairs, (*b)->pairs, (*b)->count * sizeof (*b)->pairs[0]);
    *b = &g->changed;
}

/* By the tenant's rules. */
static enum dm_reason relabelled(struct dm_series *s, struct kl_labels_builder **b)
{
    struct dm_gate *g = s->gate;
    const struct dm_policy *p = s->sender->own->policy;
    enum dm_reason  why = dm_inspect_form(*b, s->source.pairs == NULL && s->source.make == NULL);

    if (why != DM_GOOD)
        return why;
    copy_pairs(g, b);
    if (p->ha && s->ticket->pair.tag > 1)
        without_replica(*b, p->ha_replica);
    if (p->relabel == NULL)
        return DM_GOOD;
    kl_arena_deinit(&g->relabelled);
    switch (kl_relabel_apply(p->relabel, *b, &g->relabelled)) {
    case KL_RELABEL_KEPT:    return DM_GOOD;
    case KL_RELABEL_DROPPED: return DM_DROPPED;
    default:                 return DM_LARGE_SET;
    }
}

/* Reads, judges and makes canonical, which puts them in order. */
static enum dm_reason read_labels(struct dm_series *s, struct kl_span *metric)
{
    struct dm_gate *g = s->gate;
    struct kl_labels_builder *b;
    enum dm_reason  why;
    struct kl_err   err;
    bool            rules;

    if (pairs_of(s, &b, &err) != KL_OK)
        return err.code == KL_ELIMIT ? DM_TOO_MANY_LABELS : DM_MALFORMED;
    rules = s->sender->own->policy->relabel != NULL || s->sender->own->policy->ha;
    if (rules && (why = relabelled(s, &b)) != DM_GOOD)
        return why;
    if (!rules && s->source.pairs != NULL)
        copy_pairs(g, &b);
    why = dm_inspect_labels(s->sender->limits, b,
                            !rules && s->source.pairs == NULL && s->source.make == NULL, metric);
    if (why != DM_GOOD)
        return why;
    kl_buf_reset(&g->canonical);
    switch (kl_labels_finish(b, &g->canonical, &err)) {
    case KL_OK:     break;
    case KL_ELIMIT: return DM_LARGE_SET;
    default:        return DM_TWICE;
    }
    s->labels = (struct kl_labels){ (const uint8_t *)g->canonical.at, g->canonical.size };
    return DM_GOOD;
}

static void place(struct dm_series *s, struct kl_span metric)
{
    struct dm_gate *g = s->gate;
    uint32_t partition = tsp_placement_of(g->placement, s->sender->tenant, metric,
                                          kl_labels_fp(s->labels), g->placing_ms);

    if (s->row->ref == 0 || partition != s->row->partition) {  /* refs are a partition's own */
        s->row->ref = ++dm_gate_part(g, partition)->refs;
        s->row->defined_epoch = 0;
        s->row->in_batch = 0;
    }
    s->row->partition = (uint16_t)(partition & 0xfff);
    s->row->dropped = false;
    s->row->placed = g->generation;
}

static bool pass_over(struct dm_series *s, uint64_t weight)
{
    s->ticket->dropped += weight;
    s->passed_over = true;
    return false;
}

static void remember_dropped(struct dm_series *s, struct kl_fp key)
{
    if (s->row == NULL)
        s->row = dm_table_add(s->gate->table, key, s->sender->tenant_number);
    s->row->dropped = true;
    s->row->pair = s->ticket->pair.tag;
    s->row->placed = s->gate->generation;
}

/* ---- HA pairs ---- */

static struct kl_span value_of(const struct kl_labels_builder *b, struct kl_span name)
{
    for (size_t i = 0; i < b->count; i++)
        if (kl_span_eq(b->pairs[i].name, name))
            return b->pairs[i].value;
    return kl_span("", 0);
}

/* Never 0, which is nothing; 1 is a series that is of no pair. */
static uint16_t tag_of(struct kl_span cluster, struct kl_span replica)
{
    uint64_t h = kl_hash64(cluster.at, cluster.size) * 31 + kl_hash64(replica.at, replica.size);

    return (uint16_t)(h % 65534 + 2);
}

/* What its pair means for it, which is that of the series before in all but strange pushes. A known row
 * is compared by a tag: a push of one pair is judged by its names, once. DM_GOOD, or why not. */
static enum dm_reason judge_pair(struct dm_series *s)
{
    const struct dm_policy   *p = s->sender->own->policy;
    struct dm_ticket         *t = s->ticket;
    struct kl_labels_builder *b;
    struct kl_span cluster, replica;
    struct kl_err  err;

    if (s->row != NULL && s->row->pair != 0 && s->row->pair == t->pair.tag)
        return DM_GOOD;
    if (pairs_of(s, &b, &err) != KL_OK)
        return err.code == KL_ELIMIT ? DM_TOO_MANY_LABELS : DM_MALFORMED;
    cluster = value_of(b, p->ha_cluster);
    replica = value_of(b, p->ha_replica);
    if (cluster.size > DM_HA_NAME_MAX || replica.size > DM_HA_NAME_MAX)
        return DM_LONG_VALUE;
    if (cluster.size == 0 || replica.size == 0)
        t->pair = (struct dm_ha_pair){ 1, DM_HA_TAKE };
    else
        t->pair = (struct dm_ha_pair){ tag_of(cluster, replica),
            dm_ha_judge(s->gate->ha, p, s->sender->tenant, cluster, replica, &t->waits_on) };
    if (t->pair.verdict != DM_HA_WAIT)
        t->waits_on = NULL;
    return DM_GOOD;
}

/* False: passed over, refused, or to be read again. */
static bool pair_lets_in(struct dm_series *s, uint64_t weight)
{
    struct dm_ticket *t = s->ticket;
    enum dm_reason    why;

    if (t->waits_on != NULL)
        return false;
    why = judge_pair(s);
    if (why == DM_GOOD && t->pair.verdict == DM_HA_TOO_MANY)
        why = DM_TOO_MANY_CLUSTERS;
    if (why != DM_GOOD) {
        dm_series_refuse(s, why, weight);
        t->seen += weight;
        return false;
    }
    if (t->pair.verdict == DM_HA_PASS_OVER) {
        t->deduplicated += weight;
        s->passed_over = true;
    }
    return t->pair.verdict == DM_HA_TAKE;
}

bool dm_series_find(struct dm_series *s, const struct kl_fp *key, uint64_t weight)
{
    struct dm_gate *g = s->gate;
    struct kl_span  metric;
    enum dm_reason  why;
    struct kl_fp    own;

    if (s->ticket->status == 413)                      /* nothing more of it is taken */
        return false;
    s->row = key == NULL ? NULL : dm_table_find(g->table, *key, s->sender->tenant_number);
    if (s->sender->own->policy->ha && !pair_lets_in(s, weight))
        return false;
    if (s->row != NULL && s->row->placed == g->generation) {
        g->hits++;
        if (s->row->dropped)
            return pass_over(s, weight);
        if (s->row->active == g->period || dm_active_touch(g, s->sender->own, s->row))
            return true;
        dm_series_refuse(s, DM_TOO_MANY_SERIES, weight);
        s->ticket->seen += weight;
        return false;
    }
    g->misses++;
    why = read_labels(s, &metric);
    if (why == DM_DROPPED) {
        if (key != NULL)
            remember_dropped(s, *key);
        return pass_over(s, weight);
    }
    if (why != DM_GOOD) {
        dm_series_refuse(s, why, weight);
        s->ticket->seen += weight;
        return false;
    }
    if (key == NULL) {                                 /* no bytes of its own to be known by */
        own = dm_key(s->sender, DM_FORMATS, kl_span(s->labels.at, s->labels.size));
        key = &own;
        s->row = dm_table_find(g->table, own, s->sender->tenant_number);
    }
    if (!dm_active_touch(g, s->sender->own, s->row)) {
        dm_series_refuse(s, DM_TOO_MANY_SERIES, weight);
        s->ticket->seen += weight;
        return false;
    }
    if (s->row == NULL) {
        s->row = dm_table_add(g->table, *key, s->sender->tenant_number);
        s->row->active = g->period;
    }
    s->row->pair = s->ticket->pair.tag;
    place(s, metric);
    return true;
}

/* Not yet acked in this partition's log as it is now, or an hour ago. */
static bool wants_definition(const struct dm_series *s, const struct dm_part *p)
{
    return s->row->defined_epoch != p->epoch ||
           s->gate->now_s - s->row->defined_s >= DM_REPEAT_S;
}

struct dm_batch *dm_series_batch(struct dm_series *s)
{
    struct dm_gate  *g = s->gate;
    struct dm_part  *p = dm_gate_part(g, s->row->partition);
    struct dm_batch *b;
    struct kl_span   metric;

    s->there = dm_map_has(s->ticket->there, p->number);
    b = s->there ? NULL : dm_batch_of(g, p, s->ticket);
    if (b == NULL || s->row->in_batch == b->serial || !wants_definition(s, p))
        return b;
    /* Its labels passed when the row was made; the same bytes pass again, under the same limits. */
    if (s->labels.at == NULL && read_labels(s, &metric) != DM_GOOD) {
        dm_ticket_fail(s->ticket, 500, 0, "a remembered series has become unreadable");
        return NULL;
    }
    tsp_record_define(b->writer, s->sender->tenant, s->row->ref, kl_labels_fp(s->labels), s->labels);
    dm_batch_defined(g, b, s->row);
    s->defined = true;
    return b;
}

/* A start after its sample, or beyond all time, tells nothing. */
static void put_start(struct dm_series *s, struct dm_batch *b, int64_t time_ms, int64_t start_ms)
{
    /* One that lies after its sample is kept: what it means is the language's to say. */
    if (start_ms != 0 && start_ms >= -DM_TIME_MAX && start_ms <= DM_TIME_MAX)
        tsp_record_start_time(b->writer, s->sender->tenant, s->row->ref, time_ms, start_ms);
}

void dm_series_start(struct dm_series *s, int64_t time_ms, int64_t start_ms)
{
    struct dm_part  *p = dm_gate_part(s->gate, s->row->partition);
    struct dm_batch *b;

    if (dm_map_has(s->ticket->there, p->number) || (b = dm_batch_of(s->gate, p, s->ticket)) == NULL ||
        (s->row->in_batch != b->serial && wants_definition(s, p)))
        return;
    put_start(s, b, time_ms, start_ms);
    dm_batch_grown(s->gate, b);
}

/* How many of the next samples may still come in this push; the others are refused. */
static size_t within_push(struct dm_series *s, size_t count)
{
    uint64_t most = s->sender->limits->samples_per_push_max, before = s->ticket->seen;
    size_t   room = count;

    s->ticket->seen += count;
    if (most > 0 && before + count > most)
        room = before >= most ? 0 : (size_t)(most - before);
    dm_series_refuse(s, DM_TOO_MANY_SAMPLES, count - room);
    return room;
}

void dm_series_floats(struct dm_series *s, int64_t *times_ms, double *values, int64_t *starts_ms,
                      size_t count)
{
    const struct dm_limits *limits = s->sender->limits;
    struct dm_batch *b;
    size_t           kept = 0;

    count = within_push(s, count);
    for (size_t i = 0; i < count; i++) {
        enum dm_reason why = dm_inspect_time(limits, s->ticket->push->now_ms, times_ms[i]);
        if (why != DM_GOOD) {
            dm_series_refuse(s, why, 1);
            continue;
        }
        times_ms[kept] = times_ms[i];
        if (starts_ms != NULL)
            starts_ms[kept] = starts_ms[i];
        values[kept++] = values[i];
    }
    if (kept == 0)
        return;
    if ((b = dm_series_batch(s)) == NULL) {
        s->ticket->push->samples_stored += s->there ? kept : 0;
        return;
    }
    tsp_record_floats(b->writer, s->sender->tenant, s->row->ref, times_ms, values, kept);
    for (size_t i = 0; starts_ms != NULL && i < kept; i++)
        put_start(s, b, times_ms[i], starts_ms[i]);
    s->ticket->push->samples_stored += kept;
    dm_batch_grown(s->gate, b);
}

void dm_series_hist(struct dm_series *s, int64_t time_ms, int64_t start_ms, const struct kl_hist *h)
{
    enum dm_reason   why = dm_inspect_time(s->sender->limits, s->ticket->push->now_ms, time_ms);
    struct dm_batch *b;

    if (within_push(s, 1) == 0)
        return;
    if (why == DM_GOOD && (uint64_t)h->pos_count + h->neg_count + h->bound_count +
                          h->pos_span_count + h->neg_span_count > DM_HIST_BUCKETS_MAX)
        why = DM_BAD_HIST;
    if (why != DM_GOOD) {
        dm_series_refuse(s, why, 1);
        return;
    }
    if ((b = dm_series_batch(s)) == NULL) {
        s->ticket->push->hists_stored += s->there;
        return;
    }
    tsp_record_hist(b->writer, s->sender->tenant, s->row->ref, time_ms, h);
    put_start(s, b, time_ms, start_ms);
    s->ticket->push->hists_stored++;
    dm_batch_grown(s->gate, b);
}

void dm_series_exemplar(struct dm_series *s, int64_t time_ms, double value,
                        struct kl_labels_builder *labels)
{
    const struct dm_limits *limits = s->sender->limits;
    enum dm_reason   why = dm_inspect_time(limits, s->ticket->push->now_ms, time_ms);
    struct dm_batch *b;
    struct kl_span   metric;
    struct kl_buf   *text = &s->gate->exemplar;
    enum dm_reason   form = dm_inspect_labels(limits, labels, false, &metric);
    struct kl_err    err;

    if (form != DM_GOOD && form != DM_NAMELESS)        /* an exemplar's labels name a trace */
        why = DM_BAD_EXEMPLAR;
    kl_buf_reset(text);
    if (why == DM_GOOD && kl_labels_finish(labels, text, &err) != KL_OK)
        why = DM_BAD_EXEMPLAR;
    if (why != DM_GOOD) {
        dm_series_refuse(s, why, 1);
        return;
    }
    if ((b = dm_series_batch(s)) == NULL) {
        s->ticket->push->exemplars_stored += s->there;
        return;
    }
    tsp_record_exemplar(b->writer, s->sender->tenant, s->row->ref, time_ms, value,
                        (struct kl_labels){ (const uint8_t *)text->at, text->size });
    s->ticket->push->exemplars_stored++;
    dm_batch_grown(s->gate, b);
}

/* A metric's metadata lives where its series begin. */
void dm_metadata(struct dm_gate *g, struct dm_ticket *t, const struct dm_sender *sender,
                 struct kl_span metric, uint8_t type, struct kl_span unit, struct kl_span help)
{
    const struct dm_limits *limits = sender->limits;
    struct dm_batch *b;
    uint32_t         first, count;

    if (t->waits_on != NULL)
        return;
    if (metric.size == 0 || metric.size > limits->value_bytes_max ||
        unit.size > limits->value_bytes_max || help.size > KL_LABELS_BYTES_MAX ||
        !kl_utf8_ok(metric) || !kl_utf8_ok(unit) || !kl_utf8_ok(help)) {
        dm_report_add(&t->report, DM_BAD_METADATA, 1, NULL, "not of a metric, too long or not UTF-8");
        return;
    }
    tsp_placement_range(g->placement, sender->tenant, metric, &first, &count);
    if (dm_map_has(t->there, first) || (b = dm_batch_of(g, dm_gate_part(g, first), t)) == NULL)
        return;
    tsp_record_metadata(b->writer, sender->tenant, metric, type, unit, help);
    kl_count(g->counters->c[DM_C_METADATA], 1);
    dm_batch_grown(g, b);
}
