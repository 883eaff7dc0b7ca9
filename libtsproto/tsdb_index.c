#include "libtsproto/tsdb_priv.h"

#include <stdlib.h>

enum kl_code tsp_tsdb_checked(const uint8_t *at, size_t size, const char *what, struct kl_err *err)
{
    uint32_t said = tsp_tsdb_be32(at + size), crc = kl_crc32c(0, at, size);

    if (crc == said)
        return KL_OK;
    return kl_fail(err, KL_ECORRUPT, "checksum of a %s is %08x, and its bytes make %08x", what, (unsigned)said,
                   (unsigned)crc);
}

uint64_t tsp_tsdb_sized(struct kl_span head, unsigned more)
{
    struct kl_cur c = kl_cur(head.at, head.size);
    uint64_t      size = kl_cur_v(&c);

    if (c.bad || size > UINT32_MAX)
        return 0;
    return (uint64_t)(c.at - (const uint8_t *)head.at) + size + more;
}

enum kl_code tsp_tsdb_sized_content(struct kl_span bytes, unsigned more, const char *what, struct kl_span *content,
                                    struct kl_err *err)
{
    struct kl_cur  c = kl_cur(bytes.at, bytes.size);
    uint64_t       size = kl_cur_v(&c);
    const uint8_t *at = c.at;

    if (c.bad || size > bytes.size || kl_cur_left(&c) != size + more)
        return kl_fail(err, KL_ECORRUPT, "%s is cut short", what);
    if (tsp_tsdb_checked(at, size + more - 4, what, err) != KL_OK)
        return err->code;
    *content = kl_span(at, size + more - 4);
    return KL_OK;
}

enum kl_code tsp_tsdb_toc_read(const uint8_t *head, const uint8_t *tail, uint64_t size,
                               struct tsp_tsdb_toc *toc, struct kl_err *err)
{
    struct tsp_tsdb_toc t = { 0 };
    const uint64_t     *all[] = { &t.symbols, &t.series, &t.postings, &t.postings_table };

    if (tsp_tsdb_be32(head) != 0xbaaad700)
        return kl_fail(err, KL_ECORRUPT, "is no index: it begins with %08x", (unsigned)tsp_tsdb_be32(head));
    if (head[4] != 1 && head[4] != 2)
        return kl_fail(err, KL_ECORRUPT, "is an index of version %u; 1 and 2 are known", head[4]);
    if (kl_crc32c(0, tail, TSP_TSDB_TOC - 4) != tsp_tsdb_be32(tail + TSP_TSDB_TOC - 4))
        return kl_fail(err, KL_ECORRUPT, "table of contents is cut short or changed: its checksum is wrong");
    t.version = head[4];
    t.symbols = tsp_tsdb_be64(tail);
    t.series = tsp_tsdb_be64(tail + 8);
    t.label_indices = tsp_tsdb_be64(tail + 16);
    t.label_table = tsp_tsdb_be64(tail + 24);
    t.postings = tsp_tsdb_be64(tail + 32);
    t.postings_table = tsp_tsdb_be64(tail + 40);
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (*all[i] > size - TSP_TSDB_TOC)
            return kl_fail(err, KL_ECORRUPT, "table of contents speaks of byte %llu of %llu",
                           (unsigned long long)*all[i], (unsigned long long)size);
    if (t.symbols == 0 || t.postings_table == 0)
        return kl_fail(err, KL_ECORRUPT, "has no symbols or no postings");
    *toc = t;
    return KL_OK;
}

enum kl_code tsp_tsdb_section(struct kl_span bytes, struct kl_span *content, struct kl_err *err)
{
    const uint8_t *at = bytes.at;

    if (bytes.size < 8 || tsp_tsdb_be32(at) != bytes.size - 8)
        return kl_fail(err, KL_ECORRUPT, "section is cut short");
    if (tsp_tsdb_checked(at + 4, bytes.size - 8, "section", err) != KL_OK)
        return err->code;
    *content = kl_span(at + 4, bytes.size - 8);
    return KL_OK;
}

/* ---- symbols ---- */

struct tsp_tsdb_symbols {
    struct kl_span content;
    uint8_t   version;
    uint64_t  offset;                                  /* of the content in the file; version 1 */
    uint32_t  count;
    uint32_t *starts;                                  /* in the content; version 2 */
};

enum kl_code tsp_tsdb_symbols_new(struct kl_span content, uint8_t version, uint64_t offset,
                                  struct tsp_tsdb_symbols **out, struct kl_err *err)
{
    struct kl_cur            c = kl_cur(content.at, content.size);
    struct kl_span           count = kl_cur_bytes(&c, 4);
    struct tsp_tsdb_symbols *s;
    uint32_t                 n = c.bad ? 0 : tsp_tsdb_be32(count.at);
    struct kl_span           last = { "", 0 };
    bool                     rising = true;

    if (c.bad || n > kl_cur_left(&c) || content.size > UINT32_MAX)
        return kl_fail(err, KL_ECORRUPT, "symbols are cut short");
    s = kl_new(sizeof *s);
    *s = (struct tsp_tsdb_symbols){ .content = content, .version = version, .offset = offset, .count = n };
    s->starts = kl_resize(NULL, ((size_t)n + 1) * sizeof *s->starts);
    for (uint32_t i = 0; i < n && !c.bad && rising; i++) {
        struct kl_span text;

        s->starts[i] = (uint32_t)(c.at - (const uint8_t *)content.at);
        text = kl_cur_span(&c);
        rising = i == 0 || kl_span_cmp(last, text) < 0;
        last = text;
    }
    if (c.bad || !rising) {
        tsp_tsdb_symbols_free(s);
        return kl_fail(err, KL_ECORRUPT, "symbols are %s", c.bad ? "cut short" : "out of order");
    }
    *out = s;
    return KL_OK;
}

void tsp_tsdb_symbols_free(struct tsp_tsdb_symbols *s)
{
    if (s == NULL)
        return;
    free(s->starts);
    free(s);
}

bool tsp_tsdb_symbol(const struct tsp_tsdb_symbols *s, uint64_t ref, struct kl_span *text)
{
    struct kl_cur c;
    uint64_t      start;

    if (s->version == 1) {
        if (ref < s->offset + 4 || ref - s->offset >= s->content.size)
            return false;
        start = ref - s->offset;
    } else {
        if (ref >= s->count)
            return false;
        start = s->starts[ref];
    }
    c = kl_cur((const uint8_t *)s->content.at + start, s->content.size - start);
    *text = kl_cur_span(&c);
    return !c.bad;
}

/* ---- postings ---- */

enum kl_code tsp_tsdb_all_series(struct kl_span content, uint64_t *offset, struct kl_err *err)
{
    struct kl_cur  c = kl_cur(content.at, content.size);
    struct kl_span count = kl_cur_bytes(&c, 4);
    uint32_t       n = c.bad ? 0 : tsp_tsdb_be32(count.at);

    for (uint32_t i = 0; i < n && !c.bad; i++) {
        bool     pair = kl_cur_v(&c) == 2;
        size_t   name = pair ? kl_cur_span(&c).size : 1, value = pair ? kl_cur_span(&c).size : 1;
        uint64_t at = kl_cur_v(&c);

        if (!pair)
            break;
        if (!c.bad && name == 0 && value == 0) {
            *offset = at;
            return KL_OK;
        }
    }
    return kl_fail(err, KL_ECORRUPT, "postings' table is cut short, or has no list of all series");
}

enum kl_code tsp_tsdb_postings(struct kl_span content, uint32_t *count, struct kl_err *err)
{
    uint32_t n = content.size >= 4 ? tsp_tsdb_be32(content.at) : 0;

    if (content.size < 4 || (uint64_t)n * 4 != content.size - 4)
        return kl_fail(err, KL_ECORRUPT, "list of all series is cut short");
    *count = n;
    return KL_OK;
}

/* ---- series ---- */

uint64_t tsp_tsdb_series_size(struct kl_span head) { return tsp_tsdb_sized(head, 4); }

enum kl_code tsp_tsdb_series_content(struct kl_span bytes, struct kl_span *content, struct kl_err *err)
{
    return tsp_tsdb_sized_content(bytes, 4, "series", content, err);
}

static enum kl_code read_labels(struct kl_cur *c, const struct tsp_tsdb_symbols *symbols,
                                struct tsp_tsdb_series *s, struct kl_err *err)
{
    uint64_t n = kl_cur_v(c);

    kl_labels_start(&s->labels);
    for (uint64_t i = 0; i < n && !c->bad; i++) {
        uint64_t       name_ref = kl_cur_v(c), value_ref = kl_cur_v(c);
        struct kl_span name, value;

        if (c->bad || !tsp_tsdb_symbol(symbols, name_ref, &name) ||
            !tsp_tsdb_symbol(symbols, value_ref, &value))
            return kl_fail(err, KL_ECORRUPT, "series with a label that is no symbol");
        if (kl_labels_add(&s->labels, name, value, err) != KL_OK)
            return err->code;
    }
    return c->bad ? kl_fail(err, KL_ECORRUPT, "series is cut short") : KL_OK;
}

enum kl_code tsp_tsdb_series_read(struct kl_span content, const struct tsp_tsdb_symbols *symbols,
                                  struct tsp_tsdb_series *s, struct kl_err *err)
{
    struct kl_cur c = kl_cur(content.at, content.size);
    uint64_t      n, ref = 0;
    int64_t       end = 0;

    if (read_labels(&c, symbols, s, err) != KL_OK)
        return err->code;
    n = kl_cur_v(&c);
    if (c.bad || n > kl_cur_left(&c) / 3 + 1)          /* three bytes at least */
        return kl_fail(err, KL_ECORRUPT, "series is cut short");
    if (n > s->room) {
        s->room = n;
        s->chunks = kl_resize(s->chunks, s->room * sizeof *s->chunks);
    }
    s->count = 0;
    for (uint64_t i = 0; i < n; i++) {
        struct tsp_tsdb_chunk *k = &s->chunks[i];
        uint64_t               from = i == 0 ? (uint64_t)kl_cur_z(&c) : (uint64_t)end + kl_cur_v(&c);
        uint64_t               to = from + kl_cur_v(&c);

        ref = i == 0 ? kl_cur_v(&c) : ref + (uint64_t)kl_cur_z(&c);
        *k = (struct tsp_tsdb_chunk){ (int64_t)from, (int64_t)to, ref };
        end = k->max_ms;
        if (c.bad || k->max_ms < k->min_ms)
            return kl_fail(err, KL_ECORRUPT, "series is cut short, or its chunks are of no time");
        s->count++;
    }
    return KL_OK;
}

void tsp_tsdb_series_deinit(struct tsp_tsdb_series *s)
{
    free(s->chunks);
    *s = (struct tsp_tsdb_series){ 0 };
}
