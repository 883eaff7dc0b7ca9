/* Which snapshot lies in the store, under which keys: bytes and names. */
#include "ingestor/stored.h"

#include "libkoal/base/hash.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char magic[8] = { 'K', 'O', 'A', 'S', 'T', 'O', 'R', 'E' };
#define STORED_FILE_SIZE_MAX (UINT64_C(1) << 38)

/* ---- bytes ---- */

void ing_stored_put(const struct ing_stored *s, struct kl_buf *out)
{
    size_t from = out->size;

    kl_buf_add(out, magic, sizeof magic);
    kl_buf_add32(out, ING_STORED_VERSION);
    kl_buf_add32(out, s->partition);
    kl_buf_add64(out, s->name.incarnation);
    kl_buf_add64(out, s->name.seq);
    kl_buf_add64(out, s->name.draw);
    kl_buf_add64(out, s->serial);
    kl_buf_add64(out, s->catalogue);
    kl_buf_add64(out, (uint64_t)s->time_ms);
    kl_buf_add32(out, s->file_count);
    for (uint32_t i = 0; i < s->file_count; i++) {
        kl_buf_add64(out, s->files[i].serial);
        kl_buf_add64(out, s->files[i].size_bytes);
        kl_buf_add64(out, s->files[i].hash);
    }
    kl_buf_add32(out, kl_crc32c(0, out->at + from, out->size - from));
}

static bool is_sane(const struct ing_stored *s)
{
    if (s->files[0].size_bytes == 0)                   /* one of chunks may be empty */
        return false;
    for (uint32_t i = 0; i < s->file_count; i++) {
        if (s->files[i].size_bytes > STORED_FILE_SIZE_MAX || (s->files[i].serial == 0) != (i == 0))
            return false;
        for (uint32_t k = 0; k < i; k++)
            if (s->files[k].serial == s->files[i].serial)
                return false;
    }
    return true;
}

enum kl_code ing_stored_get(struct kl_span in, struct ing_stored *s, struct kl_err *err)
{
    const uint8_t *at = in.at;
    struct kl_cur  c;
    uint32_t       version, crc;

    if (in.size < ING_STORED_HEAD + ING_STORED_FILE + 4 || in.size > ING_STORED_INDEX_MAX || memcmp(at, magic, sizeof magic) != 0)
        return kl_fail(err, KL_ECORRUPT, "it is no index of a snapshot");
    memcpy(&crc, at + in.size - 4, 4);
    if (crc != kl_crc32c(0, at, in.size - 4))
        return kl_fail(err, KL_ECORRUPT, "its checksum is wrong");
    c = kl_cur(at + sizeof magic, in.size - sizeof magic - 4);
    version = kl_cur_32(&c);
    if (version != ING_STORED_VERSION)
        return kl_fail(err, KL_ECORRUPT, "it is of version %" PRIu32 ", which this program does not know", version);
    s->partition = kl_cur_32(&c);
    s->name.incarnation = kl_cur_64(&c);
    s->name.seq = kl_cur_64(&c);
    s->name.draw = kl_cur_64(&c);
    s->serial = kl_cur_64(&c);
    s->catalogue = kl_cur_64(&c);
    s->time_ms = (int64_t)kl_cur_64(&c);
    s->file_count = kl_cur_32(&c);
    if (s->file_count == 0 || s->file_count > ING_STORED_FILES_MAX ||
        in.size != ING_STORED_HEAD + (size_t)ING_STORED_FILE * s->file_count + 4)
        return kl_fail(err, KL_ECORRUPT, "it tells of %" PRIu32 " files in %zu bytes", s->file_count, in.size);
    for (uint32_t i = 0; i < s->file_count; i++) {
        s->files[i].serial = kl_cur_64(&c);
        s->files[i].size_bytes = kl_cur_64(&c);
        s->files[i].hash = kl_cur_64(&c);
    }
    return is_sane(s) ? KL_OK : kl_fail(err, KL_ECORRUPT, "its files are not those of a snapshot");
}

/* ---- keys ---- */

void ing_stored_prefix(uint32_t partition, char *key)
{
    snprintf(key, KL_STORE_KEY_MAX + 1, "catalogue/snapshots/%04" PRIu32 "/", partition);
}

void ing_stored_key(uint32_t partition, const struct ing_stored_name *n, const char *file, char *key)
{
    snprintf(key, KL_STORE_KEY_MAX + 1, "catalogue/snapshots/%04" PRIu32 "/%016" PRIx64 "-%016" PRIx64 "-%016" PRIx64 "/%s",
             partition, n->incarnation, n->seq, n->draw, file);
}

bool ing_stored_key_parse(const char *key, uint32_t partition, struct ing_stored_name *n, const char **file)
{
    char again[KL_STORE_KEY_MAX + 1], start[KL_STORE_KEY_MAX + 1];

    ing_stored_prefix(partition, start);
    if (strncmp(key, start, strlen(start)) != 0 || strlen(key) > KL_STORE_KEY_MAX ||
        sscanf(key + strlen(start), "%16" SCNx64 "-%16" SCNx64 "-%16" SCNx64, &n->incarnation, &n->seq, &n->draw) != 3)
        return false;
    ing_stored_key(partition, n, "", again);
    if (strncmp(key, again, strlen(again)) != 0)
        return false;
    *file = key + strlen(again);
    return true;
}

void ing_stored_file_key(const struct ing_stored *s, uint32_t file, char *key)
{
    char name[64] = "head";

    if (file != 0)
        ing_snap_chunks_name(s->files[file].serial, name, sizeof name);
    ing_stored_key(s->partition, &s->name, name, key);
}

int ing_stored_cmp(const struct ing_stored_name *a, const struct ing_stored_name *b)
{
    if (a->incarnation != b->incarnation)
        return a->incarnation < b->incarnation ? -1 : 1;
    if (a->seq != b->seq)
        return a->seq < b->seq ? -1 : 1;
    return a->draw < b->draw ? -1 : a->draw > b->draw;
}
