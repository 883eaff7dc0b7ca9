/*
 * Sealed chunks. One in memory is a piece of its own, its bytes behind it; one that a snapshot holds
 * is 32 bytes that say where, kept in pages without malloc's overhead.
 *
 *   in the file, at `at`:   u32 crc32c over (the file's number, `at`, the bytes)   the bytes
 *
 * so bytes that lie in another place, or in another file, are no more believed than damaged ones.
 */
#include "ingestor/head_priv.h"

#include "libkoal/base/mem.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_PAGE = 256 };

uint32_t ing_spilled_crc(uint64_t serial, uint64_t at, struct kl_span bytes)
{
    uint64_t place[2] = { serial, at };

    return kl_crc32c(kl_crc32c(0, place, sizeof place), bytes.at, bytes.size);
}

enum kl_code ing_chunk_damaged(struct ing_files *files, const struct ing_file *f, struct kl_err *err)
{
    int none = 0;

    kl_within(err, "snapshot file chunks-%016" PRIx64, f->serial);
    if (atomic_compare_exchange_strong(&files->damaged, &none, 1)) {
        files->words = *err;
        files->bad_serial = f->serial;
        atomic_store(&files->damaged, 2);
    }
    return err->code;
}

enum kl_code ing_chunk_check(struct ing_files *files, const struct ing_chunk *c, const char *read,
                             struct kl_span *bytes, struct kl_err *err)
{
    const struct ing_file *f = files->at[c->file];
    struct blk_chunk_head  head;
    uint32_t               crc;

    memcpy(&crc, read, sizeof crc);
    *bytes = kl_span(read + ING_SPILLED_HEAD, c->size);
    if (crc != ing_spilled_crc(f->serial, c->at, *bytes) ||
        blk_chunk_peek(*bytes, &head, err) != KL_OK || head.kind != c->kind ||
        head.count != c->count || head.first_ms != c->first_ms ||
        head.last_ms != ing_chunk_last(c)) {
        kl_fail(err, KL_ECORRUPT, "the chunk at byte %" PRIu32 " is damaged", c->at);
        return ing_chunk_damaged(files, f, err);
    }
    return KL_OK;
}

enum kl_code ing_chunk_bytes(struct ing_files *files, const struct ing_chunk *c,
                             struct kl_buf *scratch, struct kl_span *bytes, struct kl_err *err)
{
    const struct ing_file *f;

    if (c->file == 0) {
        *bytes = kl_span(c->bytes, c->size);
        return KL_OK;
    }
    f = files->at[c->file];
    kl_buf_reset(scratch);
    kl_buf_reserve(scratch, c->size + ING_SPILLED_HEAD);
    if (f->dir->view_read(f->view, c->at, scratch->at, c->size + ING_SPILLED_HEAD, err) != KL_OK)
        return ing_chunk_damaged(files, f, err);
    return ing_chunk_check(files, c, scratch->at, bytes, err);
}

void ing_chunk_append(struct ing_series *s, struct ing_chunk *c)
{
    c->next = NULL;
    if (s->last == NULL)
        s->first = c;
    else
        s->last->next = c;
    s->last = c;
    s->chunk_bytes += c->size;
}

struct ing_chunk *ing_chunk_new(struct ing_head *h, struct kl_span bytes,
                                const struct blk_chunk_head *head)
{
    struct ing_chunk *c = kl_resize(NULL, sizeof *c + bytes.size);

    assert(bytes.size <= ING_CHUNK_BYTES_MAX);
    assert((uint64_t)head->last_ms - (uint64_t)head->first_ms <= UINT32_MAX);
    *c = (struct ing_chunk){ .first_ms = head->first_ms, .size = (uint32_t)bytes.size,
                             .span_ms = (uint32_t)(head->last_ms - head->first_ms),
                             .count = head->count, .kind = head->kind };
    memcpy(c->bytes, bytes.at, bytes.size);
    h->memory.bytes[ING_MEM_CHUNKS] += (int64_t)(sizeof *c + c->size + 8);
    h->sealed_bytes += c->size;
    return c;
}

struct ing_chunk *ing_chunk_spilled(struct ing_head *h, const struct ing_chunk *like, uint32_t file,
                                    uint32_t at)
{
    struct ing_chunk *c = h->chunk_free;
    struct ing_file  *f = h->files->at[file];

    if (c == NULL) {
        struct ing_chunk *page = kl_resize(NULL, CHUNK_PAGE * sizeof *page);

        if ((h->chunk_page_count & (h->chunk_page_count - 1)) == 0)
            h->chunk_pages = kl_resize(h->chunk_pages, (h->chunk_page_count == 0 ? 1 :
                                       h->chunk_page_count * 2) * sizeof(struct ing_chunk *));
        h->chunk_pages[h->chunk_page_count++] = page;
        h->memory.bytes[ING_MEM_CHUNKS] += (int64_t)(CHUNK_PAGE * sizeof *page);
        for (int i = CHUNK_PAGE; i-- > 0;) {
            page[i].next = h->chunk_free;
            h->chunk_free = &page[i];
        }
        c = h->chunk_free;
    }
    h->chunk_free = c->next;
    *c = *like;
    c->next = NULL;
    c->file = file;
    c->at = at;
    f->live++;
    f->live_bytes += c->size;
    h->files->live_bytes += c->size;
    return c;
}

void ing_chunk_free(struct ing_head *h, struct ing_chunk *c)
{
    if (c->file == 0) {
        h->memory.bytes[ING_MEM_CHUNKS] -= (int64_t)(sizeof *c + c->size + 8);
        h->sealed_bytes -= c->size;
        free(c);
        return;
    }
    h->files->at[c->file]->live--;
    h->files->at[c->file]->live_bytes -= c->size;
    h->files->live_bytes -= c->size;
    c->next = h->chunk_free;
    h->chunk_free = c;
}

void ing_chunk_retire(struct ing_head *h, struct ing_chunk *c)
{
    c->next = h->retired;
    h->retired = c;
    h->retired_bytes += c->file == 0 ? sizeof *c + c->size + 8 : 0;
}

void ing_chunks_bury(struct ing_head *h)
{
    while (h->retired != NULL) {
        struct ing_chunk *c = h->retired;

        h->retired = c->next;
        ing_chunk_free(h, c);
    }
    h->retired_bytes = 0;
}

void ing_chunks_deinit(struct ing_head *h)
{
    ing_chunks_bury(h);
    for (uint32_t i = 0; i < h->chunk_page_count; i++)
        free(h->chunk_pages[i]);
    free(h->chunk_pages);
}
