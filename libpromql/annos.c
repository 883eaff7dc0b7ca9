/* Warnings and infos: collected from any thread, each once, told in Prometheus' words. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libpromql/annos_priv.h"
#include "libpromql/partial_priv.h"

enum { SHOWN_MAX = 10 };

struct pql_annos *pql_annos_new(const struct pql_params *p)
{
    struct pql_annos *a = kl_new(sizeof *a);

    atomic_flag_clear(&a->lock);
    a->by_steps = p->notes_by_steps && !p->instant;
    if (a->by_steps && p->step_ms > 0 && p->end_ms >= p->start_ms)
        a->step_count = (uint32_t)((p->end_ms - p->start_ms) / p->step_ms) + 1;
    return a;
}

void pql_annos_free(struct pql_annos *a)
{
    for (uint32_t i = 0; i < a->count; i++) {
        free(a->at[i].name);
        free(a->at[i].more);
        free(a->at[i].steps);
    }
    for (uint32_t i = 0; i < a->own_count; i++)
        free(a->own[i]);
    for (uint32_t i = 0; i < a->info_count; i++)
        free(a->infos[i]);
    free(a->at);
    free(a);
}

void pql_annos_lock(struct pql_annos *a)
{
    while (atomic_flag_test_and_set_explicit(&a->lock, memory_order_acquire))
        ;
}

void pql_annos_unlock(struct pql_annos *a)
{
    atomic_flag_clear_explicit(&a->lock, memory_order_release);
}

void pql_annos_warn(struct pql_annos *a, const char *text)
{
    uint32_t i = 0;

    pql_annos_lock(a);
    while (i < a->own_count && strcmp(a->own[i], text) != 0)
        i++;
    if (i == a->own_count && i < PQL_WARNINGS_OF_CALLER_MAX)
        a->own[a->own_count++] = kl_strdup(text);
    pql_annos_unlock(a);
}

void pql_annos_info(struct pql_annos *a, const char *text)
{
    uint32_t i = 0;

    pql_annos_lock(a);
    while (i < a->info_count && strcmp(a->infos[i], text) != 0)
        i++;
    if (i == a->info_count && i < PQL_INFOS_OF_CALLER_MAX)
        a->infos[a->info_count++] = kl_strdup(text);
    pql_annos_unlock(a);
}

static char *copy(struct kl_span s)
{
    char *c = kl_new(s.size + 1);

    if (s.size > 0)
        memcpy(c, s.at, s.size);
    return c;
}

static bool reads_same(const struct pql_anno *a, const struct pql_anno *b)
{
    return a->hash == b->hash && a->what == b->what
           && (a->what == A_MONOTONIC || (kl_f64_bits(a->x) == kl_f64_bits(b->x)
                                          && kl_f64_bits(a->y) == kl_f64_bits(b->y)));
}

static bool same(const struct pql_anno *a, const struct pql_anno *b, struct kl_span name, struct kl_span more)
{
    return reads_same(a, b) && kl_span_eq(kl_span_str(a->name), name) && kl_span_eq(kl_span_str(a->more), more);
}

bool pql_annos_counts(uint8_t what)
{
    return what == A_MONOTONIC || what == A_START_OVERLAP;
}

/* What counts is one entry wherever it was noted, and its first place stays. */
struct pql_anno *pql_annos_entry(struct pql_annos *as, struct pql_anno *a, struct kl_span name,
                                 struct kl_span more, bool *is_new)
{
    a->hash = kl_hash64_seed(name.at, name.size, a->what);
    *is_new = false;
    for (uint32_t i = 0; i < as->count; i++) {
        struct pql_anno *e = &as->at[i];

        if (same(e, a, name, more) && ((e->at == a->at && e->order == a->order) || pql_annos_counts(a->what)))
            return e;
    }
    if (as->count == PQL_ANNOS_MAX) {
        as->blurred = true;
        return NULL;
    }
    *is_new = true;
    if (as->count == as->room) {
        as->room = as->room == 0 ? 4 : as->room * 2;
        as->at = kl_resize(as->at, as->room * sizeof *as->at);
    }
    a->name = copy(name);
    a->more = copy(more);
    as->at[as->count] = *a;
    return &as->at[as->count++];
}

/* Only the operator at work notes anything. */
static void note_operator(const struct pql_query *q, struct pql_anno *a)
{
    a->order = q->cur != NULL ? q->cur->order : 0;
    a->count = q->cur != NULL ? q->cur->times : 1;
}

static struct pql_anno *note(struct pql_op *op, enum pql_note what, int32_t at, struct kl_span name,
                             struct kl_span more, double x, double y)
{
    struct pql_anno a = { .what = (uint8_t)what, .at = at, .x = x, .y = y }, *e;
    bool            is_new;

    note_operator(op->q, &a);
    e = pql_annos_entry(op->q->annos, &a, name, more, &is_new);
    if (e != NULL && !is_new)
        e->count += a.count;
    return e;
}

void pql_note(struct pql_op *op, int64_t step, enum pql_note what, int32_t at, struct kl_span name,
              struct kl_span more, double x, double y)
{
    struct pql_annos *as = op->q->annos;
    struct pql_anno  *e;

    pql_annos_lock(as);
    e = note(op, what, at, name, more, x, y);
    if (e != NULL)
        pql_annos_step(op, as, e, step);
    pql_annos_unlock(as);
}

void pql_note_floats(struct pql_op *op, const struct pql_row *row, enum pql_note what, int32_t at,
                     struct kl_span name, struct kl_span more)
{
    struct pql_annos *as = op->q->annos;
    struct pql_anno  *e;

    pql_annos_lock(as);
    e = note(op, what, at, name, more, 0, 0);
    if (e != NULL)
        pql_annos_floats(op, as, e, row->has);
    pql_annos_unlock(as);
}

void pql_note_monotonic(struct pql_op *op, int32_t at, struct kl_span name, int64_t ts_ms,
                        double least_bucket, double most_bucket, double diff)
{
    struct pql_anno a = { .what = A_MONOTONIC, .at = at, .x = least_bucket, .y = most_bucket,
                          .diff = diff, .least_ms = ts_ms, .most_ms = ts_ms }, *e;
    bool            is_new;

    pql_annos_lock(op->q->annos);
    note_operator(op->q, &a);
    e = pql_annos_entry(op->q->annos, &a, name, kl_span("", 0), &is_new);
    if (e != NULL && !is_new) {
        e->least_ms = ts_ms < e->least_ms ? ts_ms : e->least_ms;
        e->most_ms = ts_ms > e->most_ms ? ts_ms : e->most_ms;
        e->x = least_bucket < e->x ? least_bucket : e->x;
        e->y = most_bucket > e->y ? most_bucket : e->y;
        e->diff = diff > e->diff ? diff : e->diff;
        e->count += a.count;
    }
    if (e != NULL)
        pql_annos_step(op, op->q->annos, e, PQL_ANY_STEP);
    pql_annos_unlock(op->q->annos);
}

bool pql_annos_carry(const struct pql_annos *a, struct pql_partial_note notes[PQL_PARTIAL_NOTES_MAX], uint32_t *count)
{
    if (a->own_count > 0 || a->info_count > 0 || a->count > PQL_PARTIAL_NOTES_MAX)
        return false;
    for (uint32_t i = 0; i < a->count; i++) {
        const struct pql_anno *e = &a->at[i];

        if ((e->what != A_NON_COUNTER && e->what != A_NON_COUNTER_LABEL) || (a->by_steps && e->steps == NULL))
            return false;
        notes[i] = (struct pql_partial_note){ .what = e->what == A_NON_COUNTER ? 1 : 2, .name = kl_span_str(e->name),
                                              .more = kl_span_str(e->more), .bits = e->steps };
    }
    *count = a->count;
    return true;
}

static bool is_info(uint8_t what)
{
    switch (what) {
    case A_NON_COUNTER: case A_NON_COUNTER_LABEL: case A_MONOTONIC: case A_INCOMPATIBLE_TYPES:
    case A_IGNORED_IN_AGG: case A_IGNORED_IN_RANGE: case A_QUANTILE_NAN: case A_QUANTILE_SKEW:
    case A_FRACTION_NAN: case A_MISMATCHED_BOUNDS:
        return true;
    default:
        return false;
    }
}

static void quoted(struct kl_buf *b, const char *before, const char *s)
{
    kl_buf_adds(b, before);
    pql_quote(b, kl_span_str(s));
}

static void for_name(struct kl_buf *b, const char *sentence, const char *name)
{
    kl_buf_adds(b, sentence);
    if (*name != '\0')
        quoted(b, " for metric name ", name);
}

static void date(struct kl_buf *b, int64_t ms)
{
    int64_t s = ms / 1000, days = s / 86400, rest = s % 86400, z, era, doe, yoe, doy, mp;

    if (rest < 0)
        rest += 86400, days--;
    z = days + 719468;                                 /* civil date of a day number */
    era = (z >= 0 ? z : z - 146096) / 146097;
    doe = z - era * 146097;
    yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    mp = (5 * doy + 2) / 153;
    kl_buf_addf(b, "%04lld-%02lld-%02lldT%02lld:%02lld:%02lldZ",
                (long long)(yoe + era * 400 + (mp >= 10)), (long long)(mp < 10 ? mp + 3 : mp - 9),
                (long long)(doy - (153 * mp + 2) / 5 + 1), (long long)(rest / 3600),
                (long long)(rest / 60 % 60), (long long)(rest % 60));
}

/* %.2g as Go has it: two digits, an exponent from 2 on or below -4. */
static void two_digits(struct kl_buf *b, double v)
{
    kl_buf_addf(b, "%.2g", v);
}

static void monotonic(struct kl_buf *b, const struct pql_anno *a)
{
    for_name(b, "input to histogram_quantile needed to be fixed for monotonicity (see "
             "https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)",
             a->name);
    kl_buf_adds(b, ", from buckets ");
    pql_fmt_g(b, a->x);
    kl_buf_adds(b, " to ");
    pql_fmt_g(b, a->y);
    kl_buf_adds(b, ", with a max diff of ");
    two_digits(b, a->diff);
    kl_buf_addf(b, ", over %u samples from ", a->count);
    date(b, a->least_ms);
    kl_buf_adds(b, " to ");
    date(b, a->most_ms);
}

static void sentence(struct kl_buf *b, const struct pql_anno *a)
{
    switch (a->what) {
    case A_INVALID_QUANTILE:
        kl_buf_adds(b, "quantile value should be between 0 and 1, got ");
        pql_fmt_g(b, a->x);
        break;
    case A_INVALID_RATIO:
        kl_buf_adds(b, "ratio value should be between -1 and 1, got ");
        pql_fmt_g(b, a->x);
        kl_buf_adds(b, ", capping to ");
        pql_fmt_g(b, a->y);
        break;
    case A_BAD_BUCKET:
        quoted(b, "bucket label \"le\" is missing or has a malformed value of ", a->more);
        for_name(b, "", a->name);
        break;
    case A_MIXED_RANGE:
        quoted(b, "encountered a mix of histograms and floats for metric name ", a->name);
        break;
    case A_MIXED_AGG:
        kl_buf_adds(b, "encountered a mix of histograms and floats for aggregation");
        break;
    case A_MIXED_CLASSIC:
        for_name(b, "vector contains a mix of classic and native histograms", a->name);
        break;
    case A_NOT_COUNTER:
        quoted(b, "this native histogram metric is not a counter: ", a->name);
        break;
    case A_NOT_GAUGE:
        quoted(b, "this native histogram metric is not a gauge: ", a->name);
        break;
    case A_MIXED_SCHEMAS:
        quoted(b, "vector contains a mix of histograms with exponential and custom buckets schemas "
               "for metric name ", a->name);
        break;
    case A_NON_COUNTER:
        quoted(b, "metric might not be a counter, name does not end in _total/_sum/_count/_bucket: ",
               a->name);
        break;
    case A_NON_COUNTER_LABEL:
        quoted(b, "metric might not be a counter, __type__ label is not set to \"counter\" or "
               "\"histogram\", got ", a->more);
        quoted(b, ": ", a->name);
        break;
    case A_MONOTONIC:
        monotonic(b, a);
        break;
    case A_INCOMPATIBLE_TYPES:                         /* more: the operator; x, y: histogram? */
        quoted(b, "incompatible sample types encountered for binary operator ", a->more);
        kl_buf_addf(b, ": %s %s %s", a->x != 0 ? "histogram" : "float", a->more,
                    a->y != 0 ? "histogram" : "float");
        break;
    case A_IGNORED_IN_AGG:
        kl_buf_addf(b, "ignored histogram in %s aggregation", a->more);
        break;
    case A_IGNORED_IN_RANGE:
        quoted(b, "ignored histograms in a range containing both floats and histograms for metric "
               "name ", a->name);
        break;
    case A_INCOMPATIBLE_LAYOUT:
        kl_buf_addf(b, "incompatible bucket layout encountered for binary operator %s", a->more);
        break;
    case A_SORT_IN_RANGE:
        kl_buf_adds(b, "sort is ineffective for range queries since results are always ordered by "
                    "labels");
        break;
    case A_QUANTILE_NAN:
        for_name(b, "input to histogram_quantile has NaN observations, result is NaN", a->name);
        break;
    case A_QUANTILE_SKEW:
        for_name(b, "input to histogram_quantile has NaN observations, result is skewed higher",
                 a->name);
        break;
    case A_FRACTION_NAN:
        for_name(b, "input to histogram_fraction has NaN observations, which are excluded from all "
                 "fractions", a->name);
        break;
    case A_RESET_COLLISION:
        kl_buf_addf(b, "conflicting counter resets during histogram %s", a->more);
        break;
    case A_MISMATCHED_BOUNDS:
        kl_buf_addf(b, "mismatched custom buckets were reconciled during %s", a->more);
        break;
    default:
        quoted(b, "sample has start time that overlaps with previous sample timestamp for metric ",
               a->name);
        if (a->count > 1)
            kl_buf_addf(b, " (%u occurrences)", a->count);
    }
}

/* By place, then kind, then words: the same list whatever the threads did. */
static int by_place(const void *pa, const void *pb)
{
    const struct pql_anno *a = pa, *b = pb;
    int                c;

    if (a->at != b->at)
        return a->at < b->at ? -1 : 1;
    if (a->what != b->what)
        return a->what < b->what ? -1 : 1;
    c = strcmp(a->name, b->name);
    return c != 0 ? c : strcmp(a->more, b->more);
}

static const char *tell(struct pql_query *q, const struct pql_anno *a, bool info)
{
    struct kl_buf b;
    char         *text;

    kl_buf_init(&b, 8192);
    kl_buf_adds(&b, info ? "PromQL info: " : "PromQL warning: ");
    sentence(&b, a);
    kl_buf_adds(&b, " (");
    pql_position(q->parse.text, a->at, &b);
    kl_buf_adds(&b, ")");
    kl_buf_add8(&b, '\0');
    text = kl_arena_copy(&q->result_arena, b.at, b.size);
    if (text != NULL)
        text[b.size - 1] = '\0';
    kl_buf_deinit(&b);
    return text;
}

static const char *omitted(struct pql_query *q, unsigned count, const char *kind)
{
    char text[80];
    int  n = snprintf(text, sizeof text, "%u more %s annotations omitted", count, kind);

    return kl_arena_copy(&q->result_arena, text, (size_t)n + 1);
}

/* Prometheus compares the words before it adds the place, and of several places tells the last. */
static bool told_elsewhere(const struct pql_annos *as, uint32_t i)
{
    const struct pql_anno *a = &as->at[i];

    for (uint32_t k = 0; k < as->count; k++) {
        const struct pql_anno *b = &as->at[k];

        if (k != i && (b->order > a->order || (b->order == a->order && k < i))
            && same(a, b, kl_span_str(b->name), kl_span_str(b->more)))
            return true;
    }
    return false;
}

bool pql_annos_result(struct pql_query *q)
{
    struct pql_annos *a = q->annos;
    const char      **lists = kl_arena_alloc(&q->result_arena, sizeof *lists
                                             * (2 * (SHOWN_MAX + 1) + PQL_WARNINGS_OF_CALLER_MAX +
                                                PQL_INFOS_OF_CALLER_MAX));
    const char      **infos = lists, **warnings = lists + SHOWN_MAX + 1 + PQL_INFOS_OF_CALLER_MAX;
    unsigned          more[2] = { 0, 0 };

    if (lists == NULL)
        return false;
    if (a->count > 0)
        qsort(a->at, a->count, sizeof *a->at, by_place);
    q->result.infos = infos;
    q->result.warnings = warnings;
    q->result.info_count = q->result.warning_count = 0;
    for (uint32_t i = 0; i < a->count; i++) {
        bool        info = is_info(a->at[i].what);
        size_t     *count = info ? &q->result.info_count : &q->result.warning_count;
        const char *text;
        if (told_elsewhere(a, i))
            continue;
        if (*count == SHOWN_MAX) {
            more[info]++;
            continue;
        }
        text = tell(q, &a->at[i], info);
        if (text == NULL)
            return false;
        (info ? infos : warnings)[(*count)++] = text;
    }
    if (more[1] > 0)
        infos[q->result.info_count++] = omitted(q, more[1], "info");
    for (uint32_t i = 0; i < a->info_count; i++)
        infos[q->result.info_count++] = a->infos[i];
    if (more[0] > 0)
        warnings[q->result.warning_count++] = omitted(q, more[0], "warning");
    for (uint32_t i = 0; i < a->own_count; i++)
        warnings[q->result.warning_count++] = a->own[i];
    return true;
}
