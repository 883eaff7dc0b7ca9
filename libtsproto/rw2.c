#include "libtsproto/rw2.h"

#include <stddef.h>

#include "libtsproto/wire_priv.h"

/* Field numbers: io.prometheus.write.v2 (prompb/io/prometheus/write/v2/types.proto). */
enum { REQUEST_SYMBOL = 4, REQUEST_SERIES = 5 };
enum { SERIES_REFS = 1, SERIES_SAMPLE = 2, SERIES_HIST = 3, SERIES_EXEMPLAR = 4, SERIES_METADATA = 5,
       SERIES_CREATED = 6 };
enum { SAMPLE_VALUE = 1, SAMPLE_TIME = 2, SAMPLE_START = 3 };
enum { EXEMPLAR_REFS = 1, EXEMPLAR_VALUE = 2, EXEMPLAR_TIME = 3 };
enum { META_TYPE = 1, META_HELP = 3, META_UNIT = 4, META_TYPES = 8 };
enum { REFS_MAX = 2 * KL_LABELS_MAX };

static enum kl_code broken(const struct tsp_rw2 *r, const uint8_t *at, struct kl_err *err)
{
    return kl_fail(err, KL_EINVAL, "no remote write 2.0 message from byte %td on", at - r->begin);
}

/* Counts the symbols, so that their room is taken once. */
static enum kl_code count_symbols(struct tsp_rw2 *r, struct kl_err *err)
{
    struct kl_cur    c = r->cur;
    const uint8_t   *at = c.at;
    struct tsp_field f;

    for (; tsp_wire_next(&c, &f); at = c.at) {
        if (f.number == REQUEST_SYMBOL && f.type != TSP_BYTES)
            return broken(r, at, err);
        if (f.number == REQUEST_SYMBOL && ++r->symbol_count > TSP_RW2_SYMBOLS_MAX)
            return kl_fail(err, KL_ELIMIT, "more than %d symbols", TSP_RW2_SYMBOLS_MAX);
    }
    return c.bad ? broken(r, at, err) : KL_OK;
}

enum kl_code tsp_rw2_open(struct tsp_rw2 *r, struct kl_span message, struct kl_arena *arena,
                          struct kl_err *err)
{
    struct tsp_rw2_symbol *symbols;
    struct kl_cur          c;
    struct tsp_field       f;
    uint32_t               n = 0;

    *r = (struct tsp_rw2){ .cur = tsp_wire_in(message), .begin = message.at };
    if (count_symbols(r, err) != KL_OK)
        return err->code;
    symbols = kl_arena_alloc(arena, r->symbol_count * sizeof *symbols);
    if (symbols == NULL)
        return kl_fail(err, KL_ELIMIT, "no room for %u symbols", r->symbol_count);
    for (c = r->cur; tsp_wire_next(&c, &f); )
        if (f.number == REQUEST_SYMBOL) {
            symbols[n].text = f.bytes;
            symbols[n++].hash = kl_hash128(f.bytes.at, f.bytes.size);
        }
    if (n > 0 && symbols[0].text.size != 0)
        return kl_fail(err, KL_EINVAL, "the first symbol is not the empty string");
    r->symbols = symbols;
    return KL_OK;
}

static bool read_sample(struct kl_span s, int64_t *time_ms, double *value, int64_t *start_ms)
{
    struct kl_cur    c = tsp_wire_in(s);
    struct tsp_field f;
    uint64_t         v[SAMPLE_START + 1] = { 0 };

    while (tsp_wire_next(&c, &f)) {
        if (f.number > SAMPLE_START)
            continue;
        if (f.type != (f.number == SAMPLE_VALUE ? TSP_FIXED64 : TSP_VARINT))
            return false;
        v[f.number] = f.v;
    }
    *value = kl_bits_f64(v[SAMPLE_VALUE]);
    *time_ms = (int64_t)v[SAMPLE_TIME];
    *start_ms = (int64_t)v[SAMPLE_START];
    return !c.bad;
}

static uint32_t packed_count(struct kl_span s)
{
    uint32_t n = 0;

    for (size_t i = 0; i < s.size; i++)
        n += ((const uint8_t *)s.at)[i] < 0x80;
    return n;
}

static bool scan_series(struct kl_span body, struct tsp_rw2_series *s)
{
    struct kl_cur    c = tsp_wire_in(body);
    struct tsp_field f;
    int64_t          time_ms, start_ms;
    double           value;

    *s = (struct tsp_rw2_series){ .body = body };
    while (tsp_wire_next(&c, &f)) {
        if (f.number >= SERIES_SAMPLE && f.number <= SERIES_METADATA && f.type != TSP_BYTES)
            return false;
        switch (f.number) {
        case SERIES_REFS:
            if (f.type != TSP_BYTES && f.type != TSP_VARINT)
                return false;
            s->ref_count += f.type == TSP_BYTES ? packed_count(f.bytes) : 1;
            break;
        case SERIES_SAMPLE:
            if (!read_sample(f.bytes, &time_ms, &value, &start_ms))
                return false;
            s->sample_count++;
            break;
        case SERIES_HIST:     s->hist_count++; break;
        case SERIES_EXEMPLAR: s->exemplar_count++; break;
        case SERIES_METADATA: s->metadata = f.bytes; break;
        case SERIES_CREATED:
            if (f.type != TSP_VARINT)
                return false;
            s->created_ms = (int64_t)f.v;
            break;
        default:
            break;
        }
    }
    return !c.bad;
}

enum tsp_rw2_item tsp_rw2_next(struct tsp_rw2 *r, struct tsp_rw2_series *series, struct kl_err *err)
{
    const uint8_t   *at = r->cur.at;
    struct tsp_field f;

    for (; tsp_wire_next(&r->cur, &f); at = r->cur.at) {
        if (f.number != REQUEST_SERIES)
            continue;
        if (f.type != TSP_BYTES || !scan_series(f.bytes, series))
            goto broken;
        return TSP_RW2_SERIES;
    }
    if (!r->cur.bad)
        return TSP_RW2_END;
broken:
    r->cur = (struct kl_cur){ .at = r->cur.end, .end = r->cur.end };     /* the next call: the end */
    broken(r, at, err);
    return TSP_RW2_BROKEN;
}

/* ---- references ---- */

struct refs { uint32_t count, at[REFS_MAX]; };

static enum kl_code add_ref(const struct tsp_rw2 *r, struct refs *refs, uint64_t ref,
                            struct kl_err *err)
{
    if (ref >= r->symbol_count)
        return kl_fail(err, KL_EINVAL, "a label of symbol %llu: there are %u", (unsigned long long)ref,
                       r->symbol_count);
    if (refs->count == REFS_MAX)
        return kl_fail(err, KL_ELIMIT, "more than %d labels", KL_LABELS_MAX);
    refs->at[refs->count++] = (uint32_t)ref;
    return KL_OK;
}

/* All the references in field 1 of `message`: packed, one by one, or both. */
static enum kl_code read_refs(const struct tsp_rw2 *r, struct kl_span message, struct refs *refs,
                              struct kl_err *err)
{
    struct kl_cur    c = tsp_wire_in(message), in;
    struct tsp_field f;

    refs->count = 0;
    while (tsp_wire_next(&c, &f)) {
        if (f.number != SERIES_REFS)
            continue;
        if (f.type == TSP_VARINT) {
            if (add_ref(r, refs, f.v, err) != KL_OK)
                return err->code;
            continue;
        }
        for (in = tsp_wire_in(f.bytes); in.at < in.end; ) {
            uint64_t ref = tsp_wire_varint(&in);
            if (in.bad)
                return kl_fail(err, KL_EINVAL, "labels that are cut short");
            if (add_ref(r, refs, ref, err) != KL_OK)
                return err->code;
        }
    }
    if (refs->count % 2 != 0)
        return kl_fail(err, KL_EINVAL, "a label name without a value");
    return KL_OK;
}
_Static_assert((int)SERIES_REFS == (int)EXEMPLAR_REFS, "read_refs reads both");

enum kl_code tsp_rw2_key(const struct tsp_rw2 *r, const struct tsp_rw2_series *s, struct kl_fp *key,
                         struct kl_err *err)
{
    struct refs  refs;
    struct kl_fp hashes[REFS_MAX];

    if (read_refs(r, s->body, &refs, err) != KL_OK)
        return err->code;
    for (uint32_t i = 0; i < refs.count; i++)
        hashes[i] = r->symbols[refs.at[i]].hash;
    *key = kl_hash128(hashes, refs.count * sizeof *hashes);
    return KL_OK;
}

static enum kl_code add_labels(const struct tsp_rw2 *r, struct kl_span message,
                               struct kl_labels_builder *b, struct kl_err *err)
{
    struct refs  refs;
    enum kl_code code = read_refs(r, message, &refs, err);

    for (uint32_t i = 0; i + 1 < refs.count; i += 2)
        if (kl_labels_add(b, r->symbols[refs.at[i]].text, r->symbols[refs.at[i + 1]].text, err) != KL_OK)
            return err->code;
    return code;
}

enum kl_code tsp_rw2_labels(const struct tsp_rw2 *r, const struct tsp_rw2_series *s,
                            struct kl_labels_builder *b, struct kl_err *err)
{
    return add_labels(r, s->body, b, err);
}

enum kl_code tsp_rw2_metadata(const struct tsp_rw2 *r, const struct tsp_rw2_series *s,
                              struct tsp_rw2_metadata *meta, struct kl_err *err)
{
    struct kl_cur    c;
    struct tsp_field f;
    uint64_t         type = 0, help = 0, unit = 0;

    if (s->metadata.at == NULL)
        return kl_fail(err, KL_ENOENT, "no metadata");
    c = tsp_wire_in(s->metadata);
    while (tsp_wire_next(&c, &f)) {
        if (f.number != META_TYPE && f.number != META_HELP && f.number != META_UNIT)
            continue;
        if (f.type != TSP_VARINT)
            return kl_fail(err, KL_EINVAL, "metadata with a field of a foreign type");
        *(f.number == META_TYPE ? &type : f.number == META_HELP ? &help : &unit) = f.v;
    }
    if (c.bad)
        return kl_fail(err, KL_EINVAL, "metadata that is cut short");
    /* 0 is "none" also where a message without labels needs no symbols. */
    if ((help > 0 && help >= r->symbol_count) || (unit > 0 && unit >= r->symbol_count))
        return kl_fail(err, KL_EINVAL, "metadata of symbol %llu: there are %u",
                       (unsigned long long)(help > unit ? help : unit), r->symbol_count);
    meta->type = type < META_TYPES ? (uint8_t)type : 0;
    meta->help = help > 0 ? r->symbols[help].text : kl_span("", 0);
    meta->unit = unit > 0 ? r->symbols[unit].text : kl_span("", 0);
    return KL_OK;
}

/* ---- walks ---- */

struct tsp_rw2_walk tsp_rw2_walk(const struct tsp_rw2 *r, const struct tsp_rw2_series *s)
{
    return (struct tsp_rw2_walk){ .cur = tsp_wire_in(s->body), .r = r, .created_ms = s->created_ms };
}

size_t tsp_rw2_walk_samples(struct tsp_rw2_walk *walk, int64_t *times_ms, double *values,
                            int64_t *starts_ms, size_t cap)
{
    struct tsp_field f;
    int64_t          start_ms;
    size_t           n = 0;

    while (n < cap && tsp_wire_next(&walk->cur, &f))
        if (f.number == SERIES_SAMPLE && read_sample(f.bytes, &times_ms[n], &values[n], &start_ms)) {
            if (starts_ms != NULL)
                starts_ms[n] = start_ms != 0 ? start_ms : walk->created_ms;
            n++;
        }
    return n;
}

static bool walk_to(struct tsp_rw2_walk *walk, uint32_t number, struct tsp_field *f,
                    struct kl_err *err)
{
    while (tsp_wire_next(&walk->cur, f))
        if (f->number == number)
            return true;
    err->code = KL_OK;
    return false;
}

bool tsp_rw2_walk_hist(struct tsp_rw2_walk *walk, struct kl_arena *arena, int64_t *time_ms,
                       int64_t *start_ms, struct kl_hist *h, struct kl_err *err)
{
    struct tsp_field f;
    int64_t          own_ms;

    if (!walk_to(walk, SERIES_HIST, &f, err) ||
        tsp_wire_hist(f.bytes, arena, time_ms, &own_ms, h, err) != KL_OK)
        return false;
    *start_ms = own_ms != 0 ? own_ms : walk->created_ms;
    return true;
}

bool tsp_rw2_walk_exemplar(struct tsp_rw2_walk *walk, struct kl_labels_builder *b, int64_t *time_ms,
                           double *value, struct kl_err *err)
{
    struct tsp_field f;
    struct kl_cur    c;
    uint64_t         bits = 0, time = 0;
    struct kl_span   body;

    kl_labels_start(b);
    if (!walk_to(walk, SERIES_EXEMPLAR, &f, err))
        return false;
    body = f.bytes;
    for (c = tsp_wire_in(body); tsp_wire_next(&c, &f); ) {
        if (f.number == EXEMPLAR_VALUE && f.type == TSP_FIXED64)
            bits = f.v;
        else if (f.number == EXEMPLAR_TIME && f.type == TSP_VARINT)
            time = f.v;
        else if (f.number == EXEMPLAR_REFS ? f.type != TSP_BYTES && f.type != TSP_VARINT
                                           : f.number <= EXEMPLAR_TIME) {
            kl_fail(err, KL_EINVAL, "an exemplar with a field of a foreign type");
            return false;
        }
    }
    if (c.bad) {
        kl_fail(err, KL_EINVAL, "an exemplar that is cut short");
        return false;
    }
    if (add_labels(walk->r, body, b, err) != KL_OK) {
        kl_within(err, "an exemplar");
        return false;
    }
    *time_ms = (int64_t)time;
    *value = kl_bits_f64(bits);
    return true;
}
