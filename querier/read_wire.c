#include "querier/read_priv.h"

#include <stdlib.h>

/* ---- reading protobuf ---- */

struct field { unsigned number, type; uint64_t v; struct kl_span bytes; };

/* The next field of a message; false at its end, or with c->bad on what is no protobuf. */
static bool next_field(struct kl_cur *c, struct field *f)
{
    uint64_t key;

    if (kl_cur_left(c) == 0 || c->bad)
        return false;
    key = kl_cur_v(c);
    *f = (struct field){ .number = (unsigned)(key >> 3), .type = (unsigned)(key & 7) };
    switch (f->type) {
    case 0: f->v = kl_cur_v(c); break;
    case 1: f->v = kl_cur_64(c); break;
    case 2: f->bytes = kl_cur_span(c); break;
    case 5: f->v = kl_cur_32(c); break;
    default: c->bad = true;
    }
    return !c->bad;
}

static enum kl_code broken(struct kl_err *err)
{
    return kl_fail(err, KL_EINVAL, "the body is no ReadRequest");
}

static enum kl_code parse_matcher(struct kl_span bytes, struct kl_matcher *m, struct kl_err *err)
{
    static const enum kl_match_op ops[] = { KL_MATCH_EQ, KL_MATCH_NE, KL_MATCH_RE, KL_MATCH_NRE };
    struct kl_cur                 c = kl_cur(bytes.at, bytes.size);
    struct field                  f;

    *m = (struct kl_matcher){ .op = KL_MATCH_EQ, .name = { "", 0 }, .value = { "", 0 } };
    while (next_field(&c, &f)) {
        if (f.number == 1 && f.type == 0) {
            if (f.v >= sizeof ops / sizeof ops[0])
                return kl_fail(err, KL_EINVAL, "a matcher of unknown type %llu",
                               (unsigned long long)f.v);
            m->op = ops[f.v];
        } else if (f.number == 2 && f.type == 2) {
            m->name = f.bytes;
        } else if (f.number == 3 && f.type == 2) {
            m->value = f.bytes;
        }
    }
    return c.bad ? broken(err) : KL_OK;
}

static enum kl_code parse_query(struct kl_span bytes, struct kl_arena *arena,
                                struct qr_read_query *q, struct kl_err *err)
{
    struct kl_cur c = kl_cur(bytes.at, bytes.size);
    struct field  f;
    size_t        count = 0;

    *q = (struct qr_read_query){ 0 };
    for (struct kl_cur n = c; next_field(&n, &f);)
        count += f.number == 3 && f.type == 2;
    if (count > QR_READ_MATCHERS_MAX)                  /* each may be a regular expression, to be compiled */
        return kl_fail(err, KL_ELIMIT, "more than %d matchers in one query of a read request",
                       QR_READ_MATCHERS_MAX);
    q->matchers = kl_arena_alloc(arena, (count + 1) * sizeof *q->matchers);
    if (q->matchers == NULL)
        return kl_fail(err, KL_ELIMIT, "too many matchers in a read request");
    while (next_field(&c, &f)) {
        if (f.number == 1 && f.type == 0)
            q->from_ms = (int64_t)f.v;
        else if (f.number == 2 && f.type == 0)
            q->to_ms = (int64_t)f.v;
        else if (f.number == 3 && f.type == 2 &&
                 parse_matcher(f.bytes, &q->matchers[q->matcher_count++], err) != KL_OK)
            return err->code;
    }
    return c.bad ? broken(err) : KL_OK;
}

static void accept(struct qr_read_request *r, uint64_t type)
{
    if (type == 1 && !r->samples && !r->streamed)
        r->streamed_first = true;
    r->samples = r->samples || type == 0;
    r->streamed = r->streamed || type == 1;
}

enum kl_code qr_read_parse(struct kl_span message, struct kl_arena *arena,
                           struct qr_read_request *r, struct kl_err *err)
{
    struct kl_cur c = kl_cur(message.at, message.size);
    struct field  f;

    *r = (struct qr_read_request){ 0 };
    while (next_field(&c, &f)) {
        if (f.number == 1 && f.type == 2) {
            if (r->query_count == QR_READ_QUERIES_MAX)
                return kl_fail(err, KL_ELIMIT, "more than %d queries in one read request",
                               QR_READ_QUERIES_MAX);
            if (parse_query(f.bytes, arena, &r->queries[r->query_count++], err) != KL_OK)
                return err->code;
        } else if (f.number == 2 && f.type == 0) {
            accept(r, f.v);
        } else if (f.number == 2 && f.type == 2) {     /* packed */
            struct kl_cur types = kl_cur(f.bytes.at, f.bytes.size);

            while (kl_cur_left(&types) > 0 && !types.bad)
                accept(r, kl_cur_v(&types));
        }
    }
    if (c.bad)
        return broken(err);
    if (!r->streamed)                                  /* the default of clients that name none */
        r->samples = true;
    return KL_OK;
}

/* ---- writing it: messages are measured first, so nothing is moved ---- */

static size_t varint_size(uint64_t v)
{
    size_t n = 1;

    for (; v >= 0x80; v >>= 7)
        n++;
    return n;
}

static size_t bytes_size(size_t size) { return 1 + varint_size(size) + size; }

static void put_bytes(struct kl_buf *out, unsigned number, struct kl_span s)
{
    kl_buf_add8(out, (uint8_t)(number << 3 | 2));
    kl_buf_addspan(out, s);
}

static void put_head(struct kl_buf *out, unsigned number, size_t size)
{
    kl_buf_add8(out, (uint8_t)(number << 3 | 2));
    kl_buf_addv(out, size);
}

static void put_varint(struct kl_buf *out, unsigned number, uint64_t v)
{
    kl_buf_add8(out, (uint8_t)(number << 3));
    kl_buf_addv(out, v);
}

static void put_double(struct kl_buf *out, unsigned number, double v)
{
    kl_buf_add8(out, (uint8_t)(number << 3 | 1));
    kl_buf_addf64(out, v);
}

static size_t label_size(const struct kl_label *l)
{
    return bytes_size(l->name.size) + bytes_size(l->value.size);
}

static size_t labels_size(struct kl_labels l)
{
    struct kl_cur   c = kl_labels_cur(l);
    struct kl_label x;
    size_t          n = 0;

    while (kl_labels_next(&c, &x))
        n += bytes_size(label_size(&x));
    return n;
}

static void put_labels(struct kl_buf *out, struct kl_labels l)
{
    struct kl_cur   c = kl_labels_cur(l);
    struct kl_label x;

    while (kl_labels_next(&c, &x)) {
        put_head(out, 1, label_size(&x));
        put_bytes(out, 1, x.name);
        put_bytes(out, 2, x.value);
    }
}

static void put_spans(struct kl_buf *out, unsigned number, const struct kl_hist_span *spans,
                      uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint64_t offset = ((uint64_t)(int64_t)spans[i].offset << 1) ^
                          (uint64_t)((int64_t)spans[i].offset >> 63);

        put_head(out, number, 2 + varint_size(offset) + varint_size(spans[i].length));
        put_varint(out, 1, offset);
        put_varint(out, 2, spans[i].length);
    }
}

static void put_doubles(struct kl_buf *out, unsigned number, const double *v, uint32_t count)
{
    if (count == 0)
        return;
    put_head(out, number, count * sizeof *v);
    for (uint32_t i = 0; i < count; i++)
        kl_buf_addf64(out, v[i]);
}

/* prompb.Histogram in its float form. */
static void put_hist(struct kl_buf *out, const struct kl_hist *h, int64_t time_ms)
{
    uint32_t zigzag = ((uint32_t)h->schema << 1) ^ (uint32_t)(h->schema >> 31);

    put_double(out, 2, h->count);
    put_double(out, 3, h->sum);
    put_varint(out, 4, zigzag);
    put_double(out, 5, h->zero_threshold);
    put_double(out, 7, h->zero_count);
    put_spans(out, 8, h->neg_spans, h->neg_span_count);
    put_doubles(out, 10, h->neg, h->neg_count);
    put_spans(out, 11, h->pos_spans, h->pos_span_count);
    put_doubles(out, 13, h->pos, h->pos_count);
    if (h->reset != KL_HIST_UNKNOWN)
        put_varint(out, 14, h->reset);
    put_varint(out, 15, (uint64_t)time_ms);
    if (h->bound_count > 0) {                          /* field 16: a key of two bytes */
        kl_buf_addv(out, 16 << 3 | 2);
        kl_buf_addv(out, h->bound_count * sizeof *h->bounds);
        for (uint32_t i = 0; i < h->bound_count; i++)
            kl_buf_addf64(out, h->bounds[i]);
    }
}

static size_t sample_size(int64_t time_ms)
{
    return 9 + 1 + varint_size((uint64_t)time_ms);
}

static void put_series(struct kl_buf *out, const struct pql_series *s, struct kl_buf *scratch)
{
    put_labels(out, s->labels);
    for (uint32_t i = 0; i < s->count; i++) {
        if (s->hists != NULL && s->hists[i] != NULL) {
            kl_buf_reset(scratch);
            put_hist(scratch, s->hists[i], s->times_ms[i]);
            put_bytes(out, 4, kl_buf_span(scratch));
        } else {
            put_head(out, 2, sample_size(s->times_ms[i]));
            put_double(out, 1, s->values[i]);
            put_varint(out, 2, (uint64_t)s->times_ms[i]);
        }
    }
}

void qr_read_result(struct kl_buf *out, const struct pql_series *series, size_t count)
{
    struct kl_buf one, scratch, result;

    kl_buf_init(&one, out->cap);
    kl_buf_init(&scratch, out->cap);
    kl_buf_init(&result, out->cap);
    for (size_t i = 0; i < count; i++) {
        kl_buf_reset(&one);
        put_series(&one, &series[i], &scratch);
        put_bytes(&result, 1, kl_buf_span(&one));
        out->over = out->over || one.over || scratch.over;
    }
    put_bytes(out, 1, kl_buf_span(&result));
    out->over = out->over || result.over;
    kl_buf_deinit(&one);
    kl_buf_deinit(&scratch);
    kl_buf_deinit(&result);
}

/* How many samples from the i-th on go into one chunk: up to QR_READ_CHUNK_SAMPLES of one kind. */
static uint32_t chunk_run(const struct pql_series *s, uint32_t i)
{
    uint32_t n = 0, left = s->count - i;

    if (s->hists != NULL && s->hists[i] != NULL)
        return qr_hist_chunk_run(s->hists + i, left);
    while (n < left && n < QR_READ_CHUNK_SAMPLES && (s->hists == NULL || s->hists[i + n] == NULL))
        n++;
    return n;
}


static void put_chunks(struct kl_buf *out, const struct pql_series *s)
{
    struct kl_buf data;

    kl_buf_init(&data, out->cap);
    for (uint32_t i = 0, n; i < s->count; i += n) {
        bool     hists = s->hists != NULL && s->hists[i] != NULL;
        uint64_t first, last;

        n = chunk_run(s, i);
        first = (uint64_t)s->times_ms[i];
        last = (uint64_t)s->times_ms[i + n - 1];
        kl_buf_reset(&data);
        if (hists)
            qr_hist_chunk(s->times_ms + i, s->hists + i, n, &data);
        else
            qr_xor_chunk(s->times_ms + i, s->values + i, n, &data);
        put_head(out, 2, 1 + varint_size(first) + 1 + varint_size(last) + 2 +
                         bytes_size(data.size));
        put_varint(out, 1, first);
        put_varint(out, 2, last);
        put_varint(out, 3, hists ? 3 : 1);             /* FLOAT_HISTOGRAM, XOR */
        put_bytes(out, 4, kl_buf_span(&data));
    }
    kl_buf_deinit(&data);
}

void qr_read_frame(struct kl_buf *out, const struct pql_series *s, uint64_t query_index)
{
    struct kl_buf series, message;
    uint32_t      crc;

    kl_buf_init(&series, out->cap);
    kl_buf_init(&message, out->cap);
    kl_buf_reserve(&series, labels_size(s->labels) + s->count * 4);
    put_labels(&series, s->labels);
    put_chunks(&series, s);
    put_bytes(&message, 1, kl_buf_span(&series));
    if (query_index > 0)
        put_varint(&message, 2, query_index);
    crc = kl_crc32c(0, message.at, message.size);
    kl_buf_addv(out, message.size);
    for (int shift = 24; shift >= 0; shift -= 8)
        kl_buf_add8(out, (uint8_t)(crc >> shift));
    kl_buf_add(out, message.at, message.size);
    out->over = out->over || series.over || message.over;
    kl_buf_deinit(&series);
    kl_buf_deinit(&message);
}

void qr_snappy_literals(struct kl_span in, struct kl_buf *out)
{
    const char *at = in.at;

    kl_buf_addv(out, in.size);
    for (size_t left = in.size; left > 0;) {
        size_t n = left < 65536 ? left : 65536;

        if (n <= 60) {
            kl_buf_add8(out, (uint8_t)((n - 1) << 2));
        } else {                                       /* tag 61: two bytes of length - 1 */
            kl_buf_add8(out, 61 << 2);
            kl_buf_add16(out, (uint16_t)(n - 1));
        }
        kl_buf_add(out, at, n);
        at += n;
        left -= n;
    }
}
