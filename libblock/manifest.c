/*
 * The manifest of a partition and the pointer to it.
 *
 *   manifest   "KOAM" u8 version, varint partition, revision, epoch, u64 incarnation,
 *              varint replay_from
 *              varint cuts, cuts times { varint seq, zigzag end }
 *              varint filesets, filesets times { fields of blk_info (info.c),
 *                                                varint generation, u8 marks: 1 quarantined,
 *                                                2 [varint obeyed, not 0],
 *                                                4 [varint resolution in seconds],
 *                                                8, 16: rolled, 32 carried, 64 lacks }
 *              varint gone, gone times { span path, zigzag when }
 *              varint deleted_seq, varint deletions made
 *              varint deletions, deletions times { varint number, u64 incarnation, varint seq,
 *                zigzag at, span tenant, zigzag from, zigzag to,
 *                varint matchers, matchers times { u8 op, span name, span value } }
 *              u32 crc32c of what precedes
 *              (version 1 has neither generation and marks, nor what is gone; 1 and 2 no deletions;
 *              1 to 3 no resolution, 4 nothing that is carried, 5 nothing that lacks)
 *   pointer    "KOAP" u8 version, varint revision, varint epoch, u64 digest, u32 crc32c
 */
#include "libblock/manifest.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "libblock/fileset_priv.h"

enum { VERSION = 6, MARK_QUARANTINED = 1, MARK_OBEYED = 2, MARK_ROLLUP = 4,
       ROLLED_SHIFT = 3, ROLLED = 3 << ROLLED_SHIFT, MARK_CARRIED = 32, MARK_LACKS = 64 };

void blk_manifest_deinit(struct blk_manifest *m)
{
    for (uint32_t i = 0; i < m->deletion_count; i++)
        blk_deletion_unref(m->deletions[i]);
    free(m->deletions);
    free(m->filesets);
    free(m->gone);
    memset(m, 0, sizeof *m);
}

void blk_manifest_add(struct blk_manifest *m, const struct blk_info *info)
{
    assert(m->fileset_count < BLK_MANIFEST_FILESETS_MAX);
    /* Room doubles at the powers of two, so it need not be kept. */
    if ((m->fileset_count & (m->fileset_count - 1)) == 0)
        m->filesets = kl_resize(m->filesets, (m->fileset_count ? (size_t)m->fileset_count * 2 : 1) *
                                                 sizeof *m->filesets);
    m->filesets[m->fileset_count++] = *info;
}

void blk_manifest_gone(struct blk_manifest *m, const char *path, int64_t at_ms)
{
    struct blk_gone *g;

    assert(m->gone_count < BLK_GONE_MAX);
    if ((m->gone_count & (m->gone_count - 1)) == 0)
        m->gone = kl_resize(m->gone, (m->gone_count ? (size_t)m->gone_count * 2 : 1) *
                                         sizeof *m->gone);
    g = &m->gone[m->gone_count++];
    memset(g, 0, sizeof *g);
    strcpy(g->path, path);
    g->at_ms = at_ms;
}

void blk_manifest_drop(struct blk_manifest *m, uint32_t i, int64_t at_ms)
{
    char path[BLK_PATH_MAX + 1];

    assert(i < m->fileset_count);
    blk_fileset_path(&m->filesets[i], path);
    blk_manifest_gone(m, path, at_ms);
    memmove(m->filesets + i, m->filesets + i + 1,
            (m->fileset_count - i - 1) * sizeof *m->filesets);
    m->fileset_count--;                                /* room: add asks for it at powers of two */
}

uint32_t blk_manifest_find(const struct blk_manifest *m, const struct blk_info *info)
{
    for (uint32_t i = 0; i < m->fileset_count; i++)
        if (m->filesets[i].id == info->id && m->filesets[i].generation == info->generation &&
            m->filesets[i].resolution_ms == info->resolution_ms &&
            m->filesets[i].window_start_ms == info->window_start_ms &&
            strcmp(m->filesets[i].tenant, info->tenant) == 0)
            return i;
    return m->fileset_count;
}

void blk_manifest_delete(struct blk_manifest *m, struct blk_deletion *d_take)
{
    assert(m->deletion_count < BLK_DELETIONS_MAX && d_take->number > m->deletions_made);
    if ((m->deletion_count & (m->deletion_count - 1)) == 0)
        m->deletions = kl_resize(m->deletions,
                                 (m->deletion_count ? (size_t)m->deletion_count * 2 : 1) *
                                     sizeof(struct blk_deletion *));
    m->deletions[m->deletion_count++] = d_take;
    m->deletions_made = d_take->number;
}

uint32_t blk_manifest_concerning(const struct blk_manifest *m, const struct blk_info *info,
                                 const struct blk_deletion **list)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < m->deletion_count; i++)
        if (blk_deletion_concerns(m->deletions[i], info))
            list[n++] = m->deletions[i];
    return n;
}

uint32_t blk_manifest_disobeying(const struct blk_manifest *m, const struct blk_deletion *d,
                                 bool *gone)
{
    uint32_t n = 0;

    *gone = false;
    for (uint32_t i = 0; i < m->fileset_count; i++)
        n += blk_deletion_concerns(d, &m->filesets[i]);
    for (uint32_t i = 0; i < m->gone_count && !*gone; i++) {
        struct blk_info info = { 0 };
        struct kl_err   unfit;

        /* Its name tells neither times nor incarnation: any of the tenant's that may precede it. */
        if (blk_fileset_path_parse(m->gone[i].path, &info, &unfit) == KL_OK)
            *gone = strcmp(info.tenant, d->tenant) == 0 &&
                    (d->incarnation != m->incarnation || info.id < d->seq);
    }
    return n;
}

void blk_manifest_forget(struct blk_manifest *m)
{
    struct blk_deletion **list = m->deletions;
    uint64_t              made = m->deletions_made;
    uint32_t              count = m->deletion_count;
    bool                 *keep = kl_new(count + 1);

    for (uint32_t i = 0; i < count; i++) {
        bool gone;

        keep[i] = blk_manifest_disobeying(m, list[i], &gone) > 0 || gone;
    }
    m->deletions = NULL;                               /* its room goes by its count: made anew */
    m->deletion_count = 0;
    m->deletions_made = 0;
    for (uint32_t i = 0; i < count; i++)
        if (keep[i])
            blk_manifest_delete(m, list[i]);
        else
            blk_deletion_unref(list[i]);
    m->deletions_made = made;
    free(list);
    free(keep);
}

void blk_manifest_here(struct blk_manifest *m, const char *path)
{
    struct blk_manifest kept = { 0 };                  /* its room goes by its count: made anew */

    for (uint32_t i = 0; i < m->gone_count; i++)
        if (strcmp(m->gone[i].path, path) != 0)
            blk_manifest_gone(&kept, m->gone[i].path, m->gone[i].at_ms);
    free(m->gone);
    m->gone = kept.gone;
    m->gone_count = kept.gone_count;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

char **blk_manifest_paths(const struct blk_manifest *m, size_t *count, char **text)
{
    size_t n = (size_t)m->fileset_count + m->gone_count;
    char **at = kl_resize(NULL, (n + 1) * sizeof *at);

    *text = kl_resize(NULL, (n + 1) * (BLK_PATH_MAX + 1));
    for (size_t i = 0; i < n; i++) {
        at[i] = *text + i * (BLK_PATH_MAX + 1);
        if (i < m->fileset_count)
            blk_fileset_path(&m->filesets[i], at[i]);
        else
            strcpy(at[i], m->gone[i - m->fileset_count].path);
    }
    qsort(at, n, sizeof *at, by_text);
    *count = n;
    return at;
}

void blk_manifest_copy(struct blk_manifest *to, const struct blk_manifest *from)
{
    struct blk_manifest copy = *from;

    copy.filesets = NULL;
    copy.gone = NULL;
    copy.deletions = NULL;
    copy.fileset_count = copy.gone_count = copy.deletion_count = 0;
    copy.deletions_made = 0;
    for (uint32_t i = 0; i < from->fileset_count; i++)
        blk_manifest_add(&copy, &from->filesets[i]);
    for (uint32_t i = 0; i < from->gone_count; i++)
        blk_manifest_gone(&copy, from->gone[i].path, from->gone[i].at_ms);
    for (uint32_t i = 0; i < from->deletion_count; i++)
        blk_manifest_delete(&copy, blk_deletion_ref(from->deletions[i]));
    copy.deletions_made = from->deletions_made;
    blk_manifest_deinit(to);
    *to = copy;
}

static bool covers(const struct blk_cut *a, const struct blk_cut *b)
{
    return a->seq >= b->seq && a->end_ms >= b->end_ms;
}

void blk_manifest_cut(struct blk_manifest *m, uint64_t seq, int64_t end_ms)
{
    struct blk_cut now = { seq, end_ms };
    uint32_t       kept = 0, at;

    for (uint32_t i = 0; i < m->cut_count; i++)
        if (covers(&m->cuts[i], &now))
            return;
    for (uint32_t i = 0; i < m->cut_count; i++)
        if (!covers(&now, &m->cuts[i]))
            m->cuts[kept++] = m->cuts[i];
    assert(kept < BLK_CUTS_MAX);
    for (at = kept; at > 0 && m->cuts[at - 1].seq > seq; at--)
        m->cuts[at] = m->cuts[at - 1];
    m->cuts[at] = now;
    m->cut_count = kept + 1;
}

bool blk_manifest_covers(const struct blk_manifest *m, uint64_t seq, int64_t time_ms)
{
    for (uint32_t i = 0; i < m->cut_count; i++)
        if (seq <= m->cuts[i].seq && (time_ms < m->cuts[i].end_ms || m->cuts[i].end_ms == INT64_MAX))
            return true;
    return false;
}

static void seal(struct kl_buf *out, size_t from)
{
    kl_buf_add32(out, kl_crc32c(0, out->at + from, out->size - from));
}

/* Magic, version and checksum; the cursor is left on what lies between. */
static enum kl_code unseal(struct kl_span bytes, const char *magic, unsigned newest,
                           const char *what, struct kl_cur *c, struct kl_err *err)
{
    const uint8_t *at = bytes.at;
    uint32_t       crc;

    if (bytes.size < 9 || memcmp(at, magic, 4) != 0)
        return kl_fail(err, KL_ECORRUPT, "%s: not one", what);
    memcpy(&crc, at + bytes.size - 4, 4);
    if (crc != kl_crc32c(0, at, bytes.size - 4))
        return kl_fail(err, KL_ECORRUPT, "%s: checksum does not match", what);
    if (at[4] < 1 || at[4] > newest)
        return kl_fail(err, KL_ECORRUPT, "%s: version %u, which this program does not know", what,
                       at[4]);
    *c = kl_cur(at + 5, bytes.size - 9);
    return KL_OK;
}

static void put_deletion(const struct blk_deletion *d, struct kl_buf *out)
{
    kl_buf_addv(out, d->number);
    kl_buf_add64(out, d->incarnation);
    kl_buf_addv(out, d->seq);
    kl_buf_addz(out, d->at_ms);
    kl_buf_addspan(out, kl_span_str(d->tenant));
    kl_buf_addz(out, d->from_ms);
    kl_buf_addz(out, d->to_ms);
    kl_buf_addv(out, d->matcher_count);
    for (uint32_t i = 0; i < d->matcher_count; i++) {
        kl_buf_add8(out, (uint8_t)d->matchers[i].op);
        kl_buf_addspan(out, d->matchers[i].name);
        kl_buf_addspan(out, d->matchers[i].value);
    }
}

/* An older program goes on reading what has nothing that it does not know. */
static uint8_t version_of(const struct blk_manifest *m)
{
    uint8_t version = 4;

    for (uint32_t i = 0; i < m->fileset_count; i++)
        if (m->filesets[i].lacks)
            return VERSION;
        else if (m->filesets[i].carried)
            version = 5;
    return version;
}

void blk_manifest_encode(const struct blk_manifest *m, struct kl_buf *out)
{
    size_t from = out->size;

    kl_buf_add(out, "KOAM", 4);
    kl_buf_add8(out, version_of(m));
    kl_buf_addv(out, m->partition);
    kl_buf_addv(out, m->revision);
    kl_buf_addv(out, m->epoch);
    kl_buf_add64(out, m->incarnation);
    kl_buf_addv(out, m->replay_from);
    kl_buf_addv(out, m->cut_count);
    for (uint32_t i = 0; i < m->cut_count; i++) {
        kl_buf_addv(out, m->cuts[i].seq);
        kl_buf_addz(out, m->cuts[i].end_ms);
    }
    kl_buf_addv(out, m->fileset_count);
    for (uint32_t i = 0; i < m->fileset_count; i++) {
        blk_info_fields(&m->filesets[i], out);
        kl_buf_addv(out, m->filesets[i].generation);
        kl_buf_add8(out, (m->filesets[i].quarantined ? MARK_QUARANTINED : 0) |
                         (m->filesets[i].obeyed > 0 ? MARK_OBEYED : 0) |
                         (m->filesets[i].resolution_ms > 0 ? MARK_ROLLUP : 0) |
                         (m->filesets[i].rolled << ROLLED_SHIFT & ROLLED) |
                         (m->filesets[i].carried ? MARK_CARRIED : 0) |
                         (m->filesets[i].lacks ? MARK_LACKS : 0));
        if (m->filesets[i].obeyed > 0)
            kl_buf_addv(out, m->filesets[i].obeyed);
        if (m->filesets[i].resolution_ms > 0)
            kl_buf_addv(out, (uint64_t)m->filesets[i].resolution_ms / 1000);
    }
    kl_buf_addv(out, m->gone_count);
    for (uint32_t i = 0; i < m->gone_count; i++) {
        kl_buf_addspan(out, kl_span_str(m->gone[i].path));
        kl_buf_addz(out, m->gone[i].at_ms);
    }
    kl_buf_addv(out, m->deleted_seq);
    kl_buf_addv(out, m->deletions_made);
    kl_buf_addv(out, m->deletion_count);
    for (uint32_t i = 0; i < m->deletion_count; i++)
        put_deletion(m->deletions[i], out);
    seal(out, from);
}

static bool read_cuts(struct kl_cur *c, struct blk_manifest *m)
{
    uint64_t n = kl_cur_v(c);

    if (c->bad || n > BLK_CUTS_MAX)
        return false;
    for (uint64_t i = 0; i < n; i++) {
        m->cuts[i].seq = kl_cur_v(c);
        m->cuts[i].end_ms = kl_cur_z(c);
        if (c->bad || (i > 0 && m->cuts[i].seq <= m->cuts[i - 1].seq))
            return false;
    }
    m->cut_count = (uint32_t)n;
    return true;
}

static bool read_fileset(struct kl_cur *c, uint8_t version, struct blk_info *info)
{
    uint8_t marks, known = MARK_QUARANTINED | (version > 2 ? MARK_OBEYED : 0) |
                          (version > 3 ? MARK_ROLLUP | ROLLED : 0) | (version > 4 ? MARK_CARRIED : 0) |
                          (version > 5 ? MARK_LACKS : 0);

    if (!blk_info_parse(c, info))
        return false;
    if (version == 1)
        return true;
    info->generation = kl_cur_v(c);
    marks = kl_cur_8(c);
    info->quarantined = marks & MARK_QUARANTINED;
    if (c->bad || (marks & ~known) != 0)
        return false;
    info->rolled = (marks & ROLLED) >> ROLLED_SHIFT;
    info->carried = marks & MARK_CARRIED;
    info->lacks = marks & MARK_LACKS;
    if (marks & MARK_OBEYED) {
        info->obeyed = kl_cur_v(c);
        if (c->bad || info->obeyed == 0)
            return false;
    }
    return (marks & MARK_ROLLUP) == 0 || blk_resolution_read(c, info);
}

static bool read_gone(struct kl_cur *c, struct blk_manifest *m)
{
    uint64_t n = kl_cur_v(c);

    if (c->bad || n > BLK_GONE_MAX || n > kl_cur_left(c) / 16)
        return false;
    for (uint64_t i = 0; i < n; i++) {
        struct kl_span  path = kl_cur_span(c);
        int64_t         at_ms = kl_cur_z(c);
        char            text[BLK_PATH_MAX + 1];
        struct blk_info info;
        struct kl_err   err;

        if (c->bad || path.size > BLK_PATH_MAX || memchr(path.at, 0, path.size) != NULL)
            return false;
        memcpy(text, path.at, path.size);
        text[path.size] = '\0';
        if (blk_fileset_path_parse(text, &info, &err) != KL_OK)
            return false;
        blk_manifest_gone(m, text, at_ms);
    }
    return true;
}

static enum kl_code read_deletion(struct kl_cur *c, struct blk_deletion **d, struct kl_err *err)
{
    struct kl_matcher   matchers[BLK_DELETION_MATCHERS_MAX];
    struct blk_deletion like = { .matchers = matchers };
    struct kl_span      tenant;
    uint64_t            count;

    like.number = kl_cur_v(c);
    like.incarnation = kl_cur_64(c);
    like.seq = kl_cur_v(c);
    like.at_ms = kl_cur_z(c);
    tenant = kl_cur_span(c);
    like.from_ms = kl_cur_z(c);
    like.to_ms = kl_cur_z(c);
    count = kl_cur_v(c);
    if (c->bad || tenant.size == 0 || tenant.size > BLK_TENANT_MAX ||
        memchr(tenant.at, 0, tenant.size) != NULL || count > BLK_DELETION_MATCHERS_MAX)
        return kl_fail(err, KL_ECORRUPT, "manifest: bad deletion");
    memcpy(like.tenant, tenant.at, tenant.size);
    for (like.matcher_count = 0; like.matcher_count < count; like.matcher_count++) {
        struct kl_matcher *m = &matchers[like.matcher_count];
        uint8_t            op = kl_cur_8(c);

        if (op > KL_MATCH_NRE)
            return kl_fail(err, KL_ECORRUPT, "manifest: bad matcher of a deletion");
        m->op = (enum kl_match_op)op;
        m->name = kl_cur_span(c);
        m->value = kl_cur_span(c);
        if (c->bad)
            return kl_fail(err, KL_ECORRUPT, "manifest: a deletion is cut short");
    }
    if (blk_deletion_new(&like, d, err) != KL_OK)
        return kl_fail(err, KL_ECORRUPT, "manifest: a deletion that means nothing");
    return KL_OK;
}

static enum kl_code read_deletions(struct kl_cur *c, struct blk_manifest *m, struct kl_err *err)
{
    uint64_t made, n;

    m->deleted_seq = kl_cur_v(c);
    made = kl_cur_v(c);
    n = kl_cur_v(c);
    if (c->bad || n > BLK_DELETIONS_MAX || n > kl_cur_left(c) / 16)
        return kl_fail(err, KL_ECORRUPT, "manifest: number of deletions out of bounds");
    for (uint64_t i = 0; i < n; i++) {
        struct blk_deletion *d;

        if (read_deletion(c, &d, err) != KL_OK)
            return err->code;
        if (d->number <= m->deletions_made || d->number > made) {
            blk_deletion_unref(d);
            return kl_fail(err, KL_ECORRUPT, "manifest: deletions out of order");
        }
        blk_manifest_delete(m, d);
    }
    m->deletions_made = made;
    return KL_OK;
}

enum kl_code blk_manifest_decode(struct kl_span bytes, struct blk_manifest *out, struct kl_err *err)
{
    struct blk_manifest m = { 0 };
    struct kl_cur       c;
    uint64_t            partition, n;
    uint8_t             version;

    if (unseal(bytes, "KOAM", VERSION, "manifest", &c, err) != KL_OK)
        return err->code;
    version = ((const uint8_t *)bytes.at)[4];
    partition = kl_cur_v(&c);
    m.revision = kl_cur_v(&c);
    m.epoch = kl_cur_v(&c);
    m.incarnation = kl_cur_64(&c);
    m.replay_from = kl_cur_v(&c);
    if (c.bad || partition > 9999 || !read_cuts(&c, &m))
        return kl_fail(err, KL_ECORRUPT, "manifest: bad head or cuts");
    m.partition = (uint32_t)partition;
    n = kl_cur_v(&c);
    if (c.bad || n > BLK_MANIFEST_FILESETS_MAX || n > kl_cur_left(&c) / 16)
        return kl_fail(err, KL_ECORRUPT, "manifest: fileset count out of bounds");
    for (uint64_t i = 0; i < n; i++) {
        struct blk_info info;

        if (!read_fileset(&c, version, &info)) {
            blk_manifest_deinit(&m);
            return kl_fail(err, KL_ECORRUPT, "manifest: bad fileset");
        }
        blk_manifest_add(&m, &info);
    }
    if (version > 1 && !read_gone(&c, &m)) {
        blk_manifest_deinit(&m);
        return kl_fail(err, KL_ECORRUPT, "manifest: bad names of what is gone");
    }
    if (version > 2 && read_deletions(&c, &m, err) != KL_OK) {
        blk_manifest_deinit(&m);
        return err->code;
    }
    if (kl_cur_left(&c) != 0) {
        blk_manifest_deinit(&m);
        return kl_fail(err, KL_ECORRUPT, "manifest: bytes left over");
    }
    *out = m;
    return KL_OK;
}

void blk_manifest_key(uint32_t partition, uint64_t revision, char key[KL_STORE_KEY_MAX + 1])
{
    snprintf(key, KL_STORE_KEY_MAX + 1, "catalogue/%04" PRIu32 "/%020" PRIu64, partition, revision);
}

void blk_pointer_key(uint32_t partition, char *key, size_t size)
{
    snprintf(key, size, "catalogue.%04" PRIu32, partition);
}

void blk_pointer_encode(const struct blk_pointer *p, struct kl_buf *out)
{
    size_t from = out->size;

    kl_buf_add(out, "KOAP", 4);
    kl_buf_add8(out, BLK_VERSION);
    kl_buf_addv(out, p->revision);
    kl_buf_addv(out, p->epoch);
    kl_buf_add64(out, p->digest);
    seal(out, from);
}

enum kl_code blk_pointer_decode(struct kl_span bytes, struct blk_pointer *p, struct kl_err *err)
{
    struct blk_pointer read;
    struct kl_cur      c;

    if (unseal(bytes, "KOAP", BLK_VERSION, "catalogue pointer", &c, err) != KL_OK)
        return err->code;
    read.revision = kl_cur_v(&c);
    read.epoch = kl_cur_v(&c);
    read.digest = kl_cur_64(&c);
    if (c.bad || kl_cur_left(&c) != 0)
        return kl_fail(err, KL_ECORRUPT, "catalogue pointer: of the wrong size");
    *p = read;
    return KL_OK;
}
