#include "libtsproto/rw1.h"

#include <stddef.h>

#include "libtsproto/wire_priv.h"

/* Field numbers: prometheus.WriteRequest and what is in it (prompb/remote.proto, types.proto). */
enum { REQUEST_SERIES = 1, REQUEST_METADATA = 3 };
enum { SERIES_LABEL = 1, SERIES_SAMPLE = 2, SERIES_EXEMPLAR = 3, SERIES_HIST = 4 };
enum { LABEL_NAME = 1, LABEL_VALUE = 2 };
enum { SAMPLE_VALUE = 1, SAMPLE_TIME = 2 };
enum { EXEMPLAR_LABEL = 1, EXEMPLAR_VALUE = 2, EXEMPLAR_TIME = 3 };
enum { META_TYPE = 1, META_METRIC = 2, META_HELP = 4, META_UNIT = 5, META_TYPES = 8 };

void tsp_rw1_open(struct tsp_rw1 *r, struct kl_span message)
{
    r->cur = tsp_wire_in(message);
    r->begin = message.at;
}

/*
 * A sample as nearly all are: tag and length, tag and value, tag and a time of six bytes (from 1971 to
 * 2109, in milliseconds). Then it is 18 bytes long, and two loads tell.
 */
enum { USUAL_BYTES = 18 };

static inline bool usual(const struct kl_cur *c, uint64_t *time_bits)
{
    uint32_t head;
    uint64_t tail;

    if (c->end - c->at < USUAL_BYTES)
        return false;
    memcpy(&head, c->at, 4);
    memcpy(&tail, c->at + USUAL_BYTES - 8, 8);         /* the value's last byte, the tag, six bytes */
    *time_bits = tail >> 16;
    return (head & 0xffffff) == (SERIES_SAMPLE << 3 | TSP_BYTES | (USUAL_BYTES - 2) << 8 |
                                 (SAMPLE_VALUE << 3 | TSP_FIXED64) << 16) &&
           (tail >> 8 & 0xff) == (SAMPLE_TIME << 3 | TSP_VARINT) &&
           (*time_bits & 0x808080808080) == 0x008080808080;
}

/* Seven bits of each of the six bytes. */
static inline int64_t usual_time(uint64_t t)
{
    return (int64_t)((t & 0x7f) | (t >> 1 & 0x7f << 7) | (t >> 2 & 0x7f << 14) | (t >> 3 & 0x7f << 21) |
                     (t >> 4 & UINT64_C(0x7f) << 28) | (t >> 5 & UINT64_C(0x7f) << 35));
}

static bool read_sample(struct kl_span s, int64_t *time_ms, double *value)
{
    struct kl_cur    c = tsp_wire_in(s);
    struct tsp_field f;
    uint64_t         bits = 0, time = 0;

    /* Value, then time, and nothing else, as every known sender writes it. */
    if (c.end - c.at > 10 && c.at[0] == (SAMPLE_VALUE << 3 | TSP_FIXED64) &&
        c.at[9] == (SAMPLE_TIME << 3 | TSP_VARINT)) {
        memcpy(value, c.at + 1, sizeof *value);
        c.at += 10;
        *time_ms = (int64_t)tsp_wire_varint(&c);
        if (c.at == c.end)
            return !c.bad;
        c = tsp_wire_in(s);
    }
    while (tsp_wire_next(&c, &f)) {
        if (f.number == SAMPLE_VALUE && f.type == TSP_FIXED64)
            bits = f.v;
        else if (f.number == SAMPLE_TIME && f.type == TSP_VARINT)
            time = f.v;
        else if (f.number == SAMPLE_VALUE || f.number == SAMPLE_TIME)
            return false;
    }
    *time_ms = (int64_t)time;
    *value = kl_bits_f64(bits);
    return !c.bad;
}

/* Counts what a series holds and finds its labels' bytes. False when it is no TimeSeries. */
static bool scan_series(struct kl_span body, struct tsp_rw1_series *s)
{
    struct kl_cur    c = tsp_wire_in(body);
    struct tsp_field f;
    const uint8_t   *labels_end;
    bool             in_front = true, scattered = false;
    int64_t          time_ms;
    double           value;

    *s = (struct tsp_rw1_series){ .body = body };
    /* Labels come first and are short, nearly always: a byte of tag, a byte of length. */
    while (c.end - c.at >= 2 && c.at[0] == (SERIES_LABEL << 3 | TSP_BYTES) && c.at[1] < 0x80 &&
           c.at[1] <= c.end - c.at - 2) {
        c.at += 2 + c.at[1];
        s->label_count++;
    }
    labels_end = c.at;
    for (uint64_t bits; usual(&c, &bits); c.at += USUAL_BYTES)
        s->sample_count++;
    in_front = s->sample_count == 0;
    while (tsp_wire_next(&c, &f)) {
        if (f.number >= SERIES_LABEL && f.number <= SERIES_HIST && f.type != TSP_BYTES)
            return false;
        switch (f.number) {
        case SERIES_LABEL:
            s->label_count++;
            if (in_front)
                labels_end = c.at;
            else
                scattered = true;
            continue;
        case SERIES_SAMPLE:
            if (!read_sample(f.bytes, &time_ms, &value))
                return false;
            s->sample_count++;
            break;
        case SERIES_EXEMPLAR: s->exemplar_count++; break;
        case SERIES_HIST:     s->hist_count++; break;
        default:              break;
        }
        in_front = false;
    }
    if (s->label_count > 0 && !scattered)
        s->labels_raw = kl_span(body.at, (size_t)(labels_end - (const uint8_t *)body.at));
    return !c.bad;
}

static bool read_metadata(struct kl_span body, struct tsp_rw1_metadata *m)
{
    struct kl_cur    c = tsp_wire_in(body);
    struct tsp_field f;
    const struct kl_span none = kl_span("", 0);

    *m = (struct tsp_rw1_metadata){ .metric = none, .help = none, .unit = none };
    while (tsp_wire_next(&c, &f)) {
        uint8_t wanted = f.number == META_TYPE ? TSP_VARINT : TSP_BYTES;
        if (f.type != wanted && (f.number == META_TYPE || f.number == META_METRIC ||
                                 f.number == META_HELP || f.number == META_UNIT))
            return false;
        switch (f.number) {
        case META_TYPE:   m->type = f.v < META_TYPES ? (uint8_t)f.v : 0; break;
        case META_METRIC: m->metric = f.bytes; break;
        case META_HELP:   m->help = f.bytes; break;
        case META_UNIT:   m->unit = f.bytes; break;
        default:          break;
        }
    }
    return !c.bad;
}

enum tsp_rw1_item tsp_rw1_next(struct tsp_rw1 *r, struct tsp_rw1_series *series,
                               struct tsp_rw1_metadata *meta, struct kl_err *err)
{
    const uint8_t   *at = r->cur.at;
    struct tsp_field f;

    for (; tsp_wire_next(&r->cur, &f); at = r->cur.at) {
        if (f.number == REQUEST_SERIES) {
            if (f.type != TSP_BYTES || !scan_series(f.bytes, series))
                goto broken;
            return TSP_RW1_SERIES;
        }
        if (f.number == REQUEST_METADATA) {
            if (f.type != TSP_BYTES || !read_metadata(f.bytes, meta))
                goto broken;
            return TSP_RW1_META;
        }
    }
    if (!r->cur.bad)
        return TSP_RW1_END;
broken:
    r->cur = (struct kl_cur){ .at = r->cur.end, .end = r->cur.end };     /* the next call: the end */
    kl_fail(err, KL_EINVAL, "no remote write message from byte %td on", at - r->begin);
    return TSP_RW1_BROKEN;
}

static enum kl_code add_label(struct kl_span label, struct kl_labels_builder *b, struct kl_err *err)
{
    struct kl_cur    c = tsp_wire_in(label);
    struct tsp_field f;
    struct kl_span   name = kl_span("", 0), value = name;

    while (tsp_wire_next(&c, &f)) {
        if (f.number != LABEL_NAME && f.number != LABEL_VALUE)
            continue;
        if (f.type != TSP_BYTES)
            return kl_fail(err, KL_EINVAL, "a label that is not text");
        *(f.number == LABEL_NAME ? &name : &value) = f.bytes;
    }
    if (c.bad)
        return kl_fail(err, KL_EINVAL, "a label that is cut short");
    return kl_labels_add(b, name, value, err);
}

enum kl_code tsp_rw1_labels(const struct tsp_rw1_series *s, struct kl_labels_builder *b,
                            struct kl_err *err)
{
    struct kl_cur    c = tsp_wire_in(s->body);
    struct tsp_field f;

    while (tsp_wire_next(&c, &f))
        if (f.number == SERIES_LABEL && add_label(f.bytes, b, err) != KL_OK)
            return err->code;
    return KL_OK;
}

/* No walk is about labels: where they lie in front, it begins behind them. */
struct kl_cur tsp_rw1_walk(const struct tsp_rw1_series *s)
{
    struct kl_cur walk = tsp_wire_in(s->body);

    walk.at += s->labels_raw.size;
    return walk;
}

size_t tsp_rw1_walk_samples(struct kl_cur *walk, int64_t *times_ms, double *values, size_t cap)
{
    struct tsp_field f;
    uint64_t         bits;
    size_t           n = 0;

    while (n < cap) {
        if (usual(walk, &bits)) {
            times_ms[n] = usual_time(bits);
            memcpy(&values[n++], walk->at + 3, sizeof *values);
            walk->at += USUAL_BYTES;
        } else if (!tsp_wire_next(walk, &f)) {
            break;
        } else if (f.number == SERIES_SAMPLE && read_sample(f.bytes, &times_ms[n], &values[n])) {
            n++;
        }
    }
    return n;
}

/* The next field `number` of a series; false at its end, with err->code KL_OK. */
static bool walk_to(struct kl_cur *walk, uint32_t number, struct tsp_field *f, struct kl_err *err)
{
    while (tsp_wire_next(walk, f))
        if (f->number == number)
            return true;
    err->code = KL_OK;
    return false;
}

bool tsp_rw1_walk_hist(struct kl_cur *walk, struct kl_arena *arena, int64_t *time_ms,
                       struct kl_hist *h, struct kl_err *err)
{
    struct tsp_field f;
    int64_t          start_ms;

    return walk_to(walk, SERIES_HIST, &f, err) &&
           tsp_wire_hist(f.bytes, arena, time_ms, &start_ms, h, err) == KL_OK;
}

static enum kl_code read_exemplar(struct kl_span body, struct kl_labels_builder *b,
                                  int64_t *time_ms, double *value, struct kl_err *err)
{
    struct kl_cur    c = tsp_wire_in(body);
    struct tsp_field f;
    uint64_t         bits = 0, time = 0;

    while (tsp_wire_next(&c, &f)) {
        if (f.number == EXEMPLAR_LABEL && f.type == TSP_BYTES) {
            if (add_label(f.bytes, b, err) != KL_OK)
                return kl_within(err, "an exemplar");
        } else if (f.number == EXEMPLAR_VALUE && f.type == TSP_FIXED64) {
            bits = f.v;
        } else if (f.number == EXEMPLAR_TIME && f.type == TSP_VARINT) {
            time = f.v;
        } else if (f.number <= EXEMPLAR_TIME) {
            return kl_fail(err, KL_EINVAL, "an exemplar with a field of a foreign type");
        }
    }
    if (c.bad)
        return kl_fail(err, KL_EINVAL, "an exemplar that is cut short");
    *time_ms = (int64_t)time;
    *value = kl_bits_f64(bits);
    return KL_OK;
}

bool tsp_rw1_walk_exemplar(struct kl_cur *walk, struct kl_labels_builder *b, int64_t *time_ms,
                           double *value, struct kl_err *err)
{
    struct tsp_field f;

    kl_labels_start(b);
    return walk_to(walk, SERIES_EXEMPLAR, &f, err) &&
           read_exemplar(f.bytes, b, time_ms, value, err) == KL_OK;
}

/* ---- the same, from the front each time ---- */

size_t tsp_rw1_samples(const struct tsp_rw1_series *s, size_t skip, int64_t *times_ms,
                       double *values, size_t cap)
{
    struct kl_cur    walk = tsp_rw1_walk(s);
    struct tsp_field f;

    while (skip > 0 && tsp_wire_next(&walk, &f))
        skip -= f.number == SERIES_SAMPLE;
    return tsp_rw1_walk_samples(&walk, times_ms, values, cap);
}

bool tsp_rw1_hist(const struct tsp_rw1_series *s, size_t nth, struct kl_arena *arena,
                  int64_t *time_ms, struct kl_hist *h, struct kl_err *err)
{
    struct kl_cur    walk = tsp_rw1_walk(s);
    struct tsp_field f;

    for (; nth > 0; nth--)
        if (!walk_to(&walk, SERIES_HIST, &f, err))
            return false;
    return tsp_rw1_walk_hist(&walk, arena, time_ms, h, err);
}

bool tsp_rw1_exemplar(const struct tsp_rw1_series *s, size_t nth, struct kl_labels_builder *b,
                      int64_t *time_ms, double *value, struct kl_err *err)
{
    struct kl_cur    walk = tsp_rw1_walk(s);
    struct tsp_field f;

    for (; nth > 0; nth--)
        if (!walk_to(&walk, SERIES_EXEMPLAR, &f, err))
            return false;
    return tsp_rw1_walk_exemplar(&walk, b, time_ms, value, err);
}
