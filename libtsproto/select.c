#include "libtsproto/select.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "libtsproto/pb_priv.h"
#include "libtsproto/placement.h"
#include "libtsproto/select.pb.h"

enum { PAGE_VERSION = 1, PAGE_MORE = 1, PAGE_STALE = 2 };

void tsp_select_subject(char *out, size_t size, uint32_t partition)
{
    snprintf(out, size, "select.%04" PRIu32, partition);
}

void tsp_select_member(char *out, size_t size, uint32_t partition, const char *name)
{
    snprintf(out, size, "select.%04" PRIu32 ".%s", partition, name);
}

/* ---- the question ---- */

static bool put_matchers(pb_ostream_t *stream, const pb_field_t *field, void *const *arg)
{
    const struct tsp_select *s = *arg;

    for (uint32_t i = 0; i < s->matcher_count; i++) {
        koalemos_Matcher m = { .op = s->matchers[i].op, .name = tsp_pb_put(&s->matchers[i].name),
                               .value = tsp_pb_put(&s->matchers[i].value) };
        if (!pb_encode_tag_for_field(stream, field) ||
            !pb_encode_submessage(stream, koalemos_Matcher_fields, &m))
            return false;
    }
    return true;
}

static bool put_also(pb_ostream_t *stream, const pb_field_t *field, void *const *arg)
{
    const struct tsp_select *s = *arg;

    for (uint32_t i = 0; i < s->also_count; i++)
        if (!pb_encode_tag(stream, PB_WT_VARINT, field->tag) ||
            !pb_encode_varint(stream, s->also[i]))
            return false;
    return true;
}

static bool get_also(pb_istream_t *stream, const pb_field_t *field, void **arg)
{
    struct tsp_select *s = *arg;
    uint32_t           partition;

    (void)field;
    if (!pb_decode_varint32(stream, &partition))
        return false;
    if (s->also_count == TSP_ALSO_MAX)
        PB_RETURN_ERROR(stream, "too many partitions");
    s->also[s->also_count++] = partition;
    return true;
}

enum kl_code tsp_select_encode(const struct tsp_select *s, struct kl_buf *out, struct kl_err *err)
{
    char           trace_text[KL_TRACE_TEXT + 1];
    struct kl_span trace = kl_span(trace_text, s->trace.on ? KL_TRACE_TEXT : 0);
    koalemos_Select m = {
        .what = s->what, .partition = s->partition, .tenant = tsp_pb_put(&s->tenant),
        .matchers = { .funcs.encode = put_matchers, .arg = (void *)s },
        .from_ms = s->from_ms, .to_ms = s->to_ms, .label = tsp_pb_put(&s->label),
        .has_cursor = s->has_cursor, .cursor_hi = s->cursor_fp.hi, .cursor_lo = s->cursor_fp.lo,
        .cursor_text = tsp_pb_put(&s->cursor_text), .limit = s->limit,
        .consistency = s->consistency, .min_seq = s->min_seq, .timeout_ms = s->timeout_ms,
        .also = { .funcs.encode = put_also, .arg = (void *)s },
        .push_version = s->push.version, .push_text = tsp_pb_put(&s->push.text),
        .push_start_ms = s->push.start_ms, .push_step_ms = s->push.step_ms, .push_steps = s->push.steps,
        .push_lookback_ms = s->push.lookback_ms, .push_samples_max = s->push.samples_max,
        .push_tally = s->push.tally, .push_partitions = s->push.partitions, .push_spread = s->push.spread,
        .push_asker = s->push.asker, .push_number = s->push.number,
        .trace = tsp_pb_put(&trace), .request_id = tsp_pb_put(&s->request_id),
    };

    if (s->trace.on)
        kl_trace_text(&s->trace, trace_text);
    if (s->matcher_count > TSP_MATCHERS_MAX)
        return kl_fail(err, KL_ELIMIT, "more than %d matchers", TSP_MATCHERS_MAX);
    if (s->also_count > TSP_ALSO_MAX)
        return kl_fail(err, KL_ELIMIT, "more than %d partitions", TSP_ALSO_MAX + 1);
    return tsp_pb_encode(koalemos_Select_fields, &m, out, "select", err);
}

struct matchers { struct tsp_select *to; struct kl_arena *arena; };

static bool get_matcher(pb_istream_t *stream, const pb_field_t *field, void **arg)
{
    struct matchers   *ms = *arg;
    struct kl_matcher *m;
    struct tsp_pb_bytes name, value;
    koalemos_Matcher   got = koalemos_Matcher_init_zero;

    (void)field;
    if (ms->to->matcher_count == TSP_MATCHERS_MAX)
        PB_RETURN_ERROR(stream, "too many matchers");
    m = &ms->to->matchers[ms->to->matcher_count];
    *m = (struct kl_matcher){ .name = kl_span("", 0), .value = kl_span("", 0) };
    name = (struct tsp_pb_bytes){ ms->arena, &m->name };
    value = (struct tsp_pb_bytes){ ms->arena, &m->value };
    got.name = tsp_pb_get(&name);
    got.value = tsp_pb_get(&value);
    if (!pb_decode(stream, koalemos_Matcher_fields, &got))
        return false;
    if (got.op > KL_MATCH_NRE)
        PB_RETURN_ERROR(stream, "no such matcher");
    m->op = (enum kl_match_op)got.op;
    ms->to->matcher_count++;
    return true;
}

static bool push_is_fit(const koalemos_Select *m, struct kl_span text)
{
    uint32_t partitions = m->push_partitions;

    return m->push_version == TSP_PUSH_VERSION && text.size > 0 && text.size <= TSP_PUSH_TEXT_MAX &&
           m->push_steps > 0 && m->push_steps <= TSP_PUSH_STEPS_MAX && m->push_step_ms >= 0 &&
           m->push_lookback_ms > 0 && partitions > 0 && partitions <= TSP_PARTITIONS_MAX &&
           (partitions & (partitions - 1)) == 0 && m->push_spread < 32 && !m->has_cursor;
}

enum kl_code tsp_select_decode(struct kl_span bytes, struct kl_arena *arena, struct tsp_select *s,
                               struct kl_err *err)
{
    struct kl_span  tenant = kl_span("", 0), label = tenant, text = tenant, trace = tenant, id = tenant, push = tenant;
    struct tsp_pb_bytes to_tenant = { arena, &tenant }, to_label = { arena, &label },
                        to_text = { arena, &text }, to_trace = { arena, &trace }, to_id = { arena, &id }, to_push = { arena, &push };
    struct matchers matchers = { s, arena };
    koalemos_Select m = koalemos_Select_init_zero;

    s->matcher_count = s->also_count = 0;
    m.also = (pb_callback_t){ .funcs.decode = get_also, .arg = s };
    m.tenant = tsp_pb_get(&to_tenant);
    m.label = tsp_pb_get(&to_label);
    m.cursor_text = tsp_pb_get(&to_text);
    m.push_text = tsp_pb_get(&to_push);
    m.trace = tsp_pb_get(&to_trace);
    m.request_id = tsp_pb_get(&to_id);
    m.matchers = (pb_callback_t){ .funcs.decode = get_matcher, .arg = &matchers };
    if (tsp_pb_decode(koalemos_Select_fields, bytes, &m, "select", err) != KL_OK)
        return err->code;
    if (m.what < TSP_SEL_SERIES || m.what > TSP_SEL_STOP || m.consistency > TSP_READ_ANY ||
        tenant.size == 0 || tenant.size > TSP_TENANT_MAX)
        return kl_fail(err, KL_EINVAL, "select: a question that this version does not know");
    if (m.what == TSP_SEL_PARTIAL && !push_is_fit(&m, push))
        return kl_fail(err, KL_EINVAL, "select: an aggregate that this version does not know");
    if (m.what == TSP_SEL_STOP && m.push_asker == 0)
        return kl_fail(err, KL_EINVAL, "select: an end of nobody's question");
    s->what = (enum tsp_select_what)m.what;
    s->partition = m.partition;
    s->tenant = tenant;
    s->from_ms = m.from_ms;
    s->to_ms = m.to_ms;
    s->label = label;
    s->has_cursor = m.has_cursor;
    s->cursor_fp = (struct kl_fp){ .hi = m.cursor_hi, .lo = m.cursor_lo };
    s->cursor_text = text;
    s->limit = m.limit;
    s->consistency = (enum tsp_consistency)m.consistency;
    s->min_seq = m.min_seq;
    s->timeout_ms = m.timeout_ms;
    s->push = (struct tsp_push){ m.push_version, push, m.push_start_ms, m.push_step_ms, m.push_lookback_ms,
                                 m.push_steps, m.push_samples_max, m.push_tally, m.push_partitions,
                                 m.push_spread, m.push_asker, m.push_number };
    (void)kl_trace_parse(trace, &s->trace);            /* one that is none: it is not traced */
    s->request_id = kl_span(id.at, id.size <= TSP_REQUEST_ID_MAX ? id.size : TSP_REQUEST_ID_MAX);
    return KL_OK;
}

enum kl_code tsp_select_compile(struct tsp_select *s, struct kl_err *err)
{
    for (uint32_t i = 0; i < s->matcher_count; i++) {
        struct kl_matcher *m = &s->matchers[i];
        struct kl_regex   *re;
        if (m->op != KL_MATCH_RE && m->op != KL_MATCH_NRE)
            continue;
        if (kl_regex_new(m->value, &re, err) != KL_OK) {
            tsp_select_release(s);
            return err->code;
        }
        m->re = re;
    }
    return KL_OK;
}

void tsp_select_release(struct tsp_select *s)
{
    for (uint32_t i = 0; i < s->matcher_count; i++) {
        kl_regex_free((struct kl_regex *)s->matchers[i].re);
        s->matchers[i].re = NULL;
    }
}

/* ---- the answer ---- */

void tsp_exemplar_put(struct kl_buf *run, int64_t time_ms, double value, struct kl_span labels)
{
    kl_buf_addz(run, time_ms);
    kl_buf_addf64(run, value);
    kl_buf_addspan(run, labels);
}

void tsp_exemplars_end(struct kl_buf *out, int64_t first_ms, int64_t last_ms, size_t count,
                       struct kl_span run)
{
    kl_buf_addv(out, 1);
    kl_buf_addz(out, first_ms);
    kl_buf_addv(out, (uint64_t)last_ms - (uint64_t)first_ms);
    kl_buf_addv(out, count);
    kl_buf_add8(out, TSP_CHUNK_EXEMPLARS);
    kl_buf_addspan(out, run);
}

bool tsp_exemplar_next(struct kl_cur *c, int64_t *time_ms, double *value, struct kl_labels *labels)
{
    struct kl_span bytes;

    if (kl_cur_left(c) == 0 || c->bad)
        return false;
    *time_ms = kl_cur_z(c);
    *value = kl_cur_f64(c);
    bytes = kl_cur_span(c);
    *labels = (struct kl_labels){ bytes.at, bytes.size };
    if (bytes.size > KL_LABELS_BYTES_MAX)
        c->bad = true;
    return !c->bad;
}

void tsp_marks_begin(struct kl_buf *out, uint64_t rest) { kl_buf_add64(out, rest); }

void tsp_marks_add(struct kl_buf *out, int64_t hour, uint64_t seq)
{
    kl_buf_addz(out, hour);
    kl_buf_addv(out, seq);
}

uint64_t tsp_marks_rest(struct kl_cur *c) { return kl_cur_64(c); }

bool tsp_marks_next(struct kl_cur *c, int64_t *hour, uint64_t *seq)
{
    if (kl_cur_left(c) == 0 || c->bad)
        return false;
    *hour = kl_cur_z(c);
    *seq = kl_cur_v(c);
    return !c->bad;
}

void tsp_page_begin(struct kl_buf *out)
{
    static const char zeros[TSP_PAGE_HEAD_SIZE];

    kl_buf_add(out, zeros, sizeof zeros);
}

void tsp_page_end(struct kl_buf *out, const struct tsp_page *page)
{
    struct kl_buf head = { 0 };

    kl_buf_add(&head, "KA", 2);
    kl_buf_add8(&head, PAGE_VERSION);
    kl_buf_add8(&head, (page->more ? PAGE_MORE : 0) | (page->stale ? PAGE_STALE : 0));
    kl_buf_add64(&head, page->applied_seq);
    kl_buf_add64(&head, page->incarnation);
    kl_buf_add64(&head, page->placement_revision);
    kl_buf_add64(&head, page->catalogue_revision);
    kl_buf_add64(&head, page->late_writes);
    kl_buf_add64(&head, page->cursor.hi);
    kl_buf_add64(&head, page->cursor.lo);
    if (head.size == TSP_PAGE_HEAD_SIZE && out->size >= TSP_PAGE_HEAD_SIZE)
        memcpy(out->at, head.at, head.size);
    kl_buf_deinit(&head);
}

enum kl_code tsp_page_open(struct kl_span answer, struct tsp_page *page, struct kl_cur *items,
                           struct kl_err *err)
{
    struct kl_cur c = kl_cur(answer.at, answer.size);
    uint8_t       version, flags;

    if (answer.size < TSP_PAGE_HEAD_SIZE || memcmp(answer.at, "KA", 2) != 0)
        return kl_fail(err, KL_ECORRUPT, "%zu bytes that are no select answer", answer.size);
    kl_cur_16(&c);
    version = kl_cur_8(&c);
    flags = kl_cur_8(&c);
    if (version != PAGE_VERSION || (flags & ~(PAGE_MORE | PAGE_STALE)) != 0)
        return kl_fail(err, KL_ECORRUPT, "a select answer of version %u, which this version does not "
                       "know", version);
    page->more = flags & PAGE_MORE;
    page->stale = flags & PAGE_STALE;
    page->applied_seq = kl_cur_64(&c);
    page->incarnation = kl_cur_64(&c);
    page->placement_revision = kl_cur_64(&c);
    page->catalogue_revision = kl_cur_64(&c);
    page->late_writes = kl_cur_64(&c);
    page->cursor.hi = kl_cur_64(&c);
    page->cursor.lo = kl_cur_64(&c);
    *items = c;
    return KL_OK;
}

/* ---- several answers in one ---- */

void tsp_bundle_begin(struct kl_buf *out)
{
    kl_buf_add(out, "KB", 2);
    kl_buf_add8(out, PAGE_VERSION);
    kl_buf_add8(out, 0);
}

void tsp_bundle_add(struct kl_buf *out, uint32_t partition, struct kl_span page)
{
    kl_buf_add32(out, partition);
    kl_buf_addspan(out, page);
}

enum kl_code tsp_bundle_open(struct kl_span answer, struct kl_cur *pages, struct kl_err *err)
{
    const uint8_t *at = answer.at;

    if (answer.size < 4 || memcmp(at, "KB", 2) != 0)
        return kl_fail(err, KL_EINVAL, "%zu bytes that are no bundle", answer.size);
    if (at[2] != PAGE_VERSION || at[3] != 0)
        return kl_fail(err, KL_ECORRUPT, "a bundle of version %u, which this version does not know",
                       at[2]);
    *pages = kl_cur(at + 4, answer.size - 4);
    return KL_OK;
}

bool tsp_bundle_next(struct kl_cur *pages, uint32_t *partition, struct kl_span *page)
{
    if (kl_cur_left(pages) == 0)
        return false;
    *partition = kl_cur_32(pages);
    *page = kl_cur_span(pages);
    return !pages->bad;
}
