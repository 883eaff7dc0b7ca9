/* The bytes of a segment. README.md draws them; the checks of a reader mirror them one by one. */
#include "libkoal/bus/bus_local_priv.h"

#include "libkoal/base/hash.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char segment_magic[8] = "KOASEG1\n";
static const char group_magic[4] = "KGRP";
static const char suffix[] = ".seg";

static void put32(uint8_t *out, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        out[i] = (uint8_t)(v >> 8 * i);
}
static void put64(uint8_t *out, uint64_t v)
{
    put32(out, (uint32_t)v);
    put32(out + 4, (uint32_t)(v >> 32));
}
static uint32_t get32(const uint8_t *in)
{
    return (uint32_t)in[0] | (uint32_t)in[1] << 8 | (uint32_t)in[2] << 16 | (uint32_t)in[3] << 24;
}
static uint64_t get64(const uint8_t *in) { return get32(in) | (uint64_t)get32(in + 4) << 32; }

/* The salt is in no file that a client's bytes can reach, so no record can pose as a header. */
static uint32_t salted(uint64_t salt, const uint8_t *bytes, size_t size)
{
    uint8_t s[8];

    put64(s, salt);
    return kl_crc32c(kl_crc32c(0, s, sizeof s), bytes, size);
}

void kl_busl_segment_name(char name[KL_BUSL_NAME_MAX + 1], uint64_t number)
{
    snprintf(name, KL_BUSL_NAME_MAX + 1, "%016llx%s", (unsigned long long)number, suffix);
}

bool kl_busl_segment_number(const char *name, uint64_t *number)
{
    char    *end;
    uint64_t n = strtoull(name, &end, 16);
    char     again[KL_BUSL_NAME_MAX + 1];

    kl_busl_segment_name(again, n);
    if (n == 0 || strcmp(name, again) != 0)
        return false;
    *number = n;
    return true;
}

void kl_busl_segment_put(uint8_t out[KL_BUSL_SEGMENT_HEAD], const struct kl_busl_segment_head *h)
{
    memset(out, 0, KL_BUSL_SEGMENT_HEAD);
    memcpy(out, segment_magic, sizeof segment_magic);
    put32(out + 8, 1);
    put32(out + 12, h->partitions);
    put64(out + 16, h->number);
    put64(out + 24, h->incarnation);
    put64(out + 32, h->salt);
    put64(out + 40, h->previous_end);
    put64(out + 48, (uint64_t)h->created_ms);
    put32(out + 60, kl_crc32c(0, out, 60));
}

enum kl_code kl_busl_segment_get(const uint8_t in[KL_BUSL_SEGMENT_HEAD],
                                 struct kl_busl_segment_head *h, struct kl_err *err)
{
    if (memcmp(in, segment_magic, sizeof segment_magic) != 0)
        return kl_fail(err, KL_ECORRUPT, "this is no segment of a log");
    if (get32(in + 60) != kl_crc32c(0, in, 60))
        return kl_fail(err, KL_ECORRUPT, "the checksum of its header is wrong");
    if (get32(in + 8) != 1)
        return kl_fail(err, KL_EINVAL, "its format has version %u; this program reads 1",
                       get32(in + 8));
    *h = (struct kl_busl_segment_head){ .partitions = get32(in + 12), .number = get64(in + 16),
                                        .incarnation = get64(in + 24), .salt = get64(in + 32),
                                        .previous_end = get64(in + 40),
                                        .created_ms = (int64_t)get64(in + 48) };
    return KL_OK;
}

void kl_busl_group_put(uint8_t out[KL_BUSL_GROUP_HEAD], uint64_t salt,
                       const struct kl_busl_group_head *h)
{
    memcpy(out, group_magic, sizeof group_magic);
    put64(out + 8, h->offset);
    put64(out + 16, h->synced);
    put32(out + 24, h->size);
    put32(out + 28, h->count);
    put32(out + 4, salted(salt, out + 8, KL_BUSL_GROUP_HEAD - 8));
}

bool kl_busl_group_get(const uint8_t in[KL_BUSL_GROUP_HEAD], uint64_t salt, uint64_t offset,
                       struct kl_busl_group_head *h)
{
    if (memcmp(in, group_magic, sizeof group_magic) != 0 || get64(in + 8) != offset ||
        get32(in + 4) != salted(salt, in + 8, KL_BUSL_GROUP_HEAD - 8))
        return false;
    *h = (struct kl_busl_group_head){ .offset = offset, .synced = get64(in + 16),
                                      .size = get32(in + 24), .count = get32(in + 28) };
    return true;
}

size_t kl_busl_entry_put(uint8_t *out, uint64_t salt, struct kl_busl_entry_head *h,
                         struct kl_span bytes)
{
    assert(h->id.size <= KL_BUS_ID_MAX && bytes.size <= KL_BUS_MESSAGE_MAX);
    h->size = (uint32_t)bytes.size;
    h->bytes_crc = kl_crc32c(0, bytes.at, bytes.size);
    memset(out, 0, KL_BUSL_ENTRY_HEAD);
    put32(out + 4, h->bytes_crc);
    put32(out + 8, h->size);
    put32(out + 12, h->partition);
    put64(out + 16, h->seq);
    put64(out + 24, (uint64_t)h->time_ms);
    out[32] = (uint8_t)h->id.size;
    if (h->id.size > 0)
        memcpy(out + KL_BUSL_ENTRY_HEAD, h->id.at, h->id.size);
    put32(out, salted(salt, out + 4, KL_BUSL_ENTRY_HEAD - 4 + h->id.size));
    memcpy(out + KL_BUSL_ENTRY_HEAD + h->id.size, bytes.at, bytes.size);
    return kl_busl_entry_size(h);
}

bool kl_busl_entry_get(const uint8_t *in, size_t avail, uint64_t salt,
                       struct kl_busl_entry_head *h)
{
    size_t id_size;

    if (avail < KL_BUSL_ENTRY_HEAD)
        return false;
    id_size = in[32];
    if (id_size > KL_BUS_ID_MAX || avail < KL_BUSL_ENTRY_HEAD + id_size ||
        get32(in) != salted(salt, in + 4, KL_BUSL_ENTRY_HEAD - 4 + id_size))
        return false;
    *h = (struct kl_busl_entry_head){ .bytes_crc = get32(in + 4), .size = get32(in + 8),
                                      .partition = get32(in + 12), .seq = get64(in + 16),
                                      .time_ms = (int64_t)get64(in + 24),
                                      .id = kl_span(in + KL_BUSL_ENTRY_HEAD, id_size) };
    return h->size > 0 && h->size <= KL_BUS_MESSAGE_MAX;
}

bool kl_busl_entry_whole(const uint8_t *in, const struct kl_busl_entry_head *h)
{
    return kl_crc32c(0, in + KL_BUSL_ENTRY_HEAD + h->id.size, h->size) == h->bytes_crc;
}

struct kl_busl_group *kl_busl_group_new(size_t bytes, uint32_t entries)
{
    struct kl_busl_group *g = kl_new(sizeof *g);

    atomic_init(&g->refs, 1);
    g->room = KL_BUSL_GROUP_HEAD + bytes;
    g->bytes = kl_resize(NULL, g->room);
    g->size = KL_BUSL_GROUP_HEAD;
    g->entry_room = entries;
    g->entries = kl_resize(NULL, (entries > 0 ? entries : 1) * sizeof *g->entries);
    return g;
}

void kl_busl_group_unref(struct kl_busl_group *g)
{
    if (g == NULL || atomic_fetch_sub(&g->refs, 1) != 1)
        return;
    free(g->bytes);
    free(g->entries);
    free(g);
}

void kl_busl_group_add(struct kl_busl_group *g, uint64_t salt, struct kl_busl_entry_head *h,
                       struct kl_span bytes)
{
    struct kl_busl_entry *e = &g->entries[g->count];
    size_t size;

    assert(g->count < g->entry_room);
    assert(g->room - g->size >= KL_BUSL_ENTRY_HEAD + h->id.size + bytes.size);
    size = kl_busl_entry_put(g->bytes + g->size, salt, h, bytes);
    *e = (struct kl_busl_entry){ .seq = h->seq, .time_ms = h->time_ms, .partition = h->partition,
                                 .at = (uint32_t)g->size, .size = (uint32_t)size,
                                 .body_at = (uint32_t)(g->size + size - h->size),
                                 .body_size = h->size };
    g->size += size;
    g->count++;
}

void kl_busl_group_seal(struct kl_busl_group *g, uint64_t segment, uint64_t offset,
                        uint64_t salt, uint64_t synced)
{
    struct kl_busl_group_head h = { .offset = offset, .synced = synced,
                                    .size = (uint32_t)(g->size - KL_BUSL_GROUP_HEAD),
                                    .count = g->count };

    g->segment = segment;
    g->offset = offset;
    g->salt = salt;
    kl_busl_group_put(g->bytes, salt, &h);
}
