#include "libtsproto/record.h"

#include "libtsproto/record_priv.h"
#include "libtsproto/wire_priv.h"

#include <stdlib.h>
#include <string.h>
#include <zstd.h>

/*
 * Passes over a body: the first walks every section and checks it without telling anyone, the next
 * two call the sink, with the definitions and with the rest. All walk with the same code, so they
 * cannot disagree.
 */
enum { RUN = 512, SECTIONS_MAX = 65536, HIST_ARENA = 16 << 20 };

struct tsp_record_reader {
    ZSTD_DCtx     *zstd;
    struct kl_buf  body;
    struct kl_arena arena;                             /* one histogram at a time */
    int64_t        times[RUN];
    double         values[RUN];
};

struct pass {                                          /* one section's walk */
    struct tsp_record_reader     *r;
    const struct tsp_record_sink *sink;                /* all NULL while checking */
    struct kl_cur  c;
    struct kl_span tenant;
    uint64_t       ref;
    int64_t        time;
    struct kl_err *err;
};

struct tsp_record_reader *tsp_record_reader_new(void)
{
    struct tsp_record_reader *r = kl_new(sizeof *r);

    r->zstd = ZSTD_createDCtx();
    if (r->zstd == NULL)
        abort();
    kl_buf_init(&r->body, TSP_RECORD_BODY_MAX);
    kl_arena_init(&r->arena, HIST_ARENA);
    return r;
}

void tsp_record_reader_free(struct tsp_record_reader *r)
{
    if (r == NULL)
        return;
    ZSTD_freeDCtx(r->zstd);
    kl_buf_deinit(&r->body);
    kl_arena_deinit(&r->arena);
    free(r);
}

static enum kl_code corrupt(struct kl_err *err, const char *what)
{
    return kl_fail(err, KL_ECORRUPT, "a log record whose %s", what);
}

static uint64_t next_ref(struct pass *p)
{
    return p->ref += (uint64_t)kl_cur_z(&p->c);
}

static int64_t next_time(struct pass *p)
{
    return p->time = (int64_t)((uint64_t)p->time + (uint64_t)kl_cur_z(&p->c));
}

/* ---- one function a kind of section: reads one entry, calls the sink if it wants it ---- */

static enum kl_code definition(struct pass *p)
{
    uint64_t       ref = next_ref(p);
    struct kl_fp   fp;
    struct kl_span s;
    struct kl_labels labels;

    fp.hi = kl_cur_64(&p->c);
    fp.lo = kl_cur_64(&p->c);
    s = kl_cur_span(&p->c);
    if (p->c.bad)
        return corrupt(p->err, "definitions are cut short");
    labels = (struct kl_labels){ .at = s.at, .size = s.size };
    if (p->sink->define != NULL)
        p->sink->define(p->sink->ctx, p->tenant, ref, fp, labels);
    else if (kl_labels_check(labels, p->err) != KL_OK) {
        p->err->code = KL_ECORRUPT;
        return kl_within(p->err, "a definition in a log record");
    }
    return KL_OK;
}

/* The hot path: the inline reads of wire_priv.h. Nobody listening, values are passed over. */
static enum kl_code float_run(struct pass *p)
{
    struct tsp_record_reader *r = p->r;
    struct kl_cur c = p->c;
    uint64_t head = tsp_wire_varint(&c), count = 1;

    p->ref += (uint64_t)tsp_wire_zigzag(head >> 1);
    if (head & 1)
        count = tsp_wire_varint(&c);
    if (c.bad || count == 0 || count > (size_t)(c.end - c.at) / 9)
        return corrupt(p->err, "samples are cut short");
    while (count > 0) {
        size_t   n = count < RUN ? (size_t)count : RUN;
        uint64_t time = (uint64_t)p->time;
        for (size_t i = 0; i < n; i++) {
            uint64_t bits;
            time += (uint64_t)tsp_wire_zigzag(tsp_wire_varint(&c));
            bits = tsp_wire_fixed(&c, 8);
            r->times[i] = (int64_t)time;
            memcpy(&r->values[i], &bits, sizeof bits);
        }
        p->time = (int64_t)time;
        if (c.bad)
            return corrupt(p->err, "samples are cut short");
        if (p->sink->floats != NULL)
            p->sink->floats(p->sink->ctx, p->tenant, p->ref, r->times, r->values, n);
        count -= n;
    }
    p->c = c;
    return KL_OK;
}

static enum kl_code histogram(struct pass *p)
{
    uint64_t       ref = next_ref(p);
    int64_t        time_ms = next_time(p);
    struct kl_hist h;

    kl_arena_deinit(&p->r->arena);
    if (tsp_hist_get(&p->c, &p->r->arena, &h, p->err) != KL_OK)
        return kl_within(p->err, "a histogram in a log record");
    if (p->sink->hist != NULL)
        p->sink->hist(p->sink->ctx, p->tenant, ref, time_ms, &h);
    return KL_OK;
}

static enum kl_code start_time(struct pass *p)
{
    uint64_t ref = next_ref(p);
    int64_t  time_ms = kl_cur_z(&p->c);
    int64_t  start_ms = (int64_t)((uint64_t)time_ms - (uint64_t)kl_cur_z(&p->c));

    if (p->c.bad)
        return corrupt(p->err, "start times are cut short");
    if (p->sink->start_time != NULL)
        p->sink->start_time(p->sink->ctx, p->tenant, ref, time_ms, start_ms);
    return KL_OK;
}

static enum kl_code exemplar(struct pass *p)
{
    uint64_t       ref = next_ref(p);
    int64_t        time_ms = kl_cur_z(&p->c);
    double         value = kl_cur_f64(&p->c);
    struct kl_span s = kl_cur_span(&p->c);
    struct kl_labels labels = { .at = s.at, .size = s.size };

    if (p->c.bad)
        return corrupt(p->err, "exemplars are cut short");
    if (p->sink->exemplar != NULL)
        p->sink->exemplar(p->sink->ctx, p->tenant, ref, time_ms, value, labels);
    else if (kl_labels_check(labels, p->err) != KL_OK) {
        p->err->code = KL_ECORRUPT;
        return kl_within(p->err, "an exemplar in a log record");
    }
    return KL_OK;
}

static enum kl_code metadata(struct pass *p)
{
    struct kl_span metric = kl_cur_span(&p->c), unit, help;
    uint8_t        type = kl_cur_8(&p->c);

    unit = kl_cur_span(&p->c);
    help = kl_cur_span(&p->c);
    if (p->c.bad)
        return corrupt(p->err, "metadata is cut short");
    if (p->sink->metadata != NULL)
        p->sink->metadata(p->sink->ctx, p->tenant, metric, type, unit, help);
    return KL_OK;
}

static enum kl_code deletion(struct pass *p)
{
    enum { OPS = 4, MATCHERS_MAX = 64 };
    struct tsp_deletion d;
    uint64_t            n;

    d.from_ms = kl_cur_z(&p->c);
    d.to_ms = kl_cur_z(&p->c);
    n = kl_cur_v(&p->c);
    if (p->c.bad || n == 0 || n > MATCHERS_MAX)
        return corrupt(p->err, "deletion names no matchers, or too many");
    d.matcher_count = (uint32_t)n;
    for (uint64_t i = 0; i < n; i++) {
        uint8_t op = kl_cur_8(&p->c);
        d.matchers[i].name = kl_cur_span(&p->c);
        d.matchers[i].value = kl_cur_span(&p->c);
        if (p->c.bad || op >= OPS)
            return corrupt(p->err, "deletion is cut short");
        d.matchers[i].op = (enum kl_match_op)op;
    }
    if (p->sink->deletion != NULL)
        p->sink->deletion(p->sink->ctx, p->tenant, &d);
    return KL_OK;
}

static enum kl_code cut(struct pass *p)
{
    struct tsp_cut c;
    uint64_t       window, format;

    c.window_start_ms = kl_cur_z(&p->c);
    window = kl_cur_v(&p->c);
    c.epoch = kl_cur_v(&p->c);
    format = kl_cur_v(&p->c);
    if (p->c.bad || window > INT64_MAX || format > UINT32_MAX)
        return corrupt(p->err, "cut is cut short");
    c.window_ms = (int64_t)window;
    c.format = (uint32_t)format;
    if (p->sink->cut != NULL)
        p->sink->cut(p->sink->ctx, &c);
    return KL_OK;
}

static enum kl_code (*const readers[])(struct pass *) = {
    [TSP_DEFINITIONS] = definition, [TSP_FLOATS] = float_run, [TSP_HISTOGRAMS] = histogram,
    [TSP_STARTS] = start_time, [TSP_EXEMPLARS] = exemplar, [TSP_METADATA] = metadata,
    [TSP_DELETIONS] = deletion, [TSP_CUT] = cut,
};

static enum kl_code section(struct pass *p, uint8_t type, struct kl_span payload)
{
    p->c = kl_cur(payload.at, payload.size);
    p->ref = 0;
    p->time = 0;
    p->tenant = kl_span("", 0);
    if (type != TSP_CUT) {
        p->tenant = kl_cur_span(&p->c);
        if (p->c.bad || p->tenant.size == 0 || p->tenant.size > TSP_TENANT_MAX)
            return corrupt(p->err, "section names no tenant");
    }
    if (type == TSP_FLOATS || type == TSP_HISTOGRAMS)
        p->time = kl_cur_z(&p->c);
    while (p->c.at < p->c.end)
        if (readers[type](p) != KL_OK)
            return p->err->code;
    return p->c.bad ? corrupt(p->err, "section is cut short") : KL_OK;
}

enum { DEFINITIONS = 1, OTHERS = 2 };                  /* which sections a walk is about */

static enum kl_code walk(struct tsp_record_reader *r, struct kl_span body, unsigned which,
                         const struct tsp_record_sink *sink, struct kl_err *err)
{
    struct kl_cur c = kl_cur(body.at, body.size);
    struct pass   p = { .r = r, .sink = sink, .err = err };
    unsigned      sections = 0;

    while (c.at < c.end) {
        uint8_t        type = kl_cur_8(&c);
        uint32_t       size = kl_cur_32(&c);
        struct kl_span payload;

        if (c.bad || size > kl_cur_left(&c) || ++sections > SECTIONS_MAX)
            return corrupt(err, "section is cut short");
        if (type < TSP_DEFINITIONS || type > TSP_CUT)
            return kl_fail(err, KL_ECORRUPT, "a log record with a section of type %u, which this "
                           "version does not know: upgrade before reading on", type);
        payload = kl_cur_bytes(&c, size);
        if ((which & (type == TSP_DEFINITIONS ? DEFINITIONS : OTHERS)) && section(&p, type, payload) != KL_OK)
            return err->code;
    }
    return KL_OK;
}

static enum kl_code unpack(struct tsp_record_reader *r, struct kl_span packed, uint32_t size,
                           struct kl_err *err)
{
    size_t n;

    kl_buf_reset(&r->body);
    if (!kl_buf_reserve(&r->body, size))
        return corrupt(err, "declared size is too large");
    n = ZSTD_decompressDCtx(r->zstd, r->body.at, size, packed.at, packed.size);
    if (ZSTD_isError(n) || n != size)
        return corrupt(err, "body does not unpack");
    r->body.size = n;
    return KL_OK;
}

enum kl_code tsp_record_read(struct tsp_record_reader *r, struct kl_span record,
                             const struct tsp_record_sink *sink, struct tsp_record_head *head,
                             struct kl_err *err)
{
    static const struct tsp_record_sink nobody = { 0 };
    struct kl_cur  c = kl_cur(record.at, record.size);
    uint8_t        version, flags;
    uint32_t       crc, size;
    struct kl_span who, body;
    uint64_t       counter;

    if (record.size < TSP_RECORD_HEAD || memcmp(record.at, "KR", 2) != 0)
        return kl_fail(err, KL_ECORRUPT, "%zu bytes that are no log record", record.size);
    kl_cur_16(&c);
    version = kl_cur_8(&c);
    flags = kl_cur_8(&c);
    crc = kl_cur_32(&c);
    if (version != TSP_RECORD_VERSION || (flags & ~TSP_RECORD_PACKED) != 0)
        return kl_fail(err, KL_ECORRUPT, "a log record of version %u with flags %u, which this version "
                       "does not know: upgrade before reading on", version, flags);
    if (crc != kl_crc32c(0, c.at, kl_cur_left(&c)))
        return corrupt(err, "checksum does not match");
    who = kl_cur_bytes(&c, 16);
    counter = kl_cur_64(&c);
    size = kl_cur_32(&c);
    body = kl_span(c.at, kl_cur_left(&c));
    if (size > TSP_RECORD_BODY_MAX)
        return corrupt(err, "declared size is too large");
    if (flags & TSP_RECORD_PACKED) {
        if (unpack(r, body, size, err) != KL_OK)
            return err->code;
        body = kl_buf_span(&r->body);
    } else if (body.size != size) {
        return corrupt(err, "size does not match");
    }
    if (walk(r, body, DEFINITIONS | OTHERS, &nobody, err) != KL_OK)
        return err->code;
    if (head != NULL) {
        memcpy(head->who.bytes, who.at, sizeof head->who.bytes);
        head->counter = counter;
    }
    /* Neither can fail: the same walk just did not. */
    return walk(r, body, DEFINITIONS, sink, err) != KL_OK ? err->code : walk(r, body, OTHERS, sink, err);
}
