/*
 * info: what a fileset is about; and the path that names it.
 *
 *   "KOAi" u8 version, fields (blk_info_fields), [varint generation: version 2 and up]
 *   [varint resolution in seconds: version 3]
 *
 * Version 2 is written only where there is a generation, version 3 only for rollups: what a cut writes is
 * read by older programs.
 *
 * Which metrics are in it is in postings, the values of __name__.
 */
#include "libblock/fileset_priv.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

const char *const blk_file_names[BLK_FILES] = {
    "index", "extras", "postings", "bloom", "summaries", "info", "data",
};

void blk_fileset_path(const struct blk_info *info, char path[BLK_PATH_MAX + 1])
{
    char partition[8], window[BLK_WINDOW_NAME];
    int  n;

    blk_folder_names(info, partition, window);
    n = snprintf(path, BLK_PATH_MAX + 1, "%s/%s/%s", info->tenant, partition, window);
    assert(n > 0 && n <= BLK_PATH_MAX);
}

void blk_folder_names(const struct blk_info *info, char partition[8], char window[BLK_WINDOW_NAME])
{
    assert(info->partition <= 9999);
    snprintf(partition, 8, "%04" PRIu32, info->partition);
    if (info->generation == 0)
        snprintf(window, BLK_WINDOW_NAME, "%" PRId64 "-%020" PRIu64, info->window_start_ms, info->id);
    else
        snprintf(window, BLK_WINDOW_NAME, "%" PRId64 "-%020" PRIu64 ".%" PRIu64,
                 info->window_start_ms, info->id, info->generation);
    if (info->resolution_ms != 0)
        snprintf(window + strlen(window), 24, "r%" PRId64, info->resolution_ms / 1000);
}

/* A tenant is a folder and a part of a key: letters, digits and a few more; not "." or "..", nor what a
 * folder has for itself. It takes what kl_tenant_ok does, or a sample that was taken could not be sealed. */
static bool tenant_ok(const char *name, size_t size)
{
    if (size == 0 || size > BLK_TENANT_MAX || (size <= 2 && name[0] == '.' && name[size - 1] == '.') ||
        (size == 4 && memcmp(name, "LOCK", 4) == 0) || (size == 9 && memcmp(name, "ENCRYPTED", 9) == 0) ||
        (size >= 5 && memcmp(name, ".put-", 5) == 0))
        return false;
    for (size_t i = 0; i < size; i++) {
        char c = name[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '_' || c == '-' || c == '.' || c == '='))
            return false;
    }
    return true;
}

/* Digits into a number; false unless that is all there is, up to `end`. */
static bool digits(const char *at, const char *end, uint64_t *v)
{
    *v = 0;
    if (at == end)
        return false;
    for (; at < end; at++) {
        if (*at < '0' || *at > '9' || __builtin_mul_overflow(*v, 10u, v) ||
            __builtin_add_overflow(*v, (uint64_t)(*at - '0'), v))
            return false;
    }
    return true;
}

enum kl_code blk_fileset_path_parse(const char *path, struct blk_info *info, struct kl_err *err)
{
    struct blk_info named = { 0 };
    const char     *slash = strchr(path, '/'), *start, *dash, *dot, *roll, *end = path + strlen(path);
    uint64_t        partition, at, seconds;
    char            again[BLK_PATH_MAX + 1];

    if (slash == NULL || !tenant_ok(path, (size_t)(slash - path)) || end - slash < 7 ||
        slash[5] != '/' || !digits(slash + 1, slash + 5, &partition))
        goto unfit;
    start = slash + 6;
    dash = strrchr(start, '-');
    roll = dash == NULL ? NULL : strchr(dash, 'r');
    if (roll != NULL) {
        if (!digits(roll + 1, end, &seconds) || seconds == 0 || seconds > BLK_RESOLUTION_MAX_MS / 1000)
            goto unfit;
        named.resolution_ms = (int64_t)seconds * 1000;
        end = roll;
    }
    dot = dash == NULL ? NULL : strchr(dash, '.');
    if (dot != NULL && !digits(dot + 1, end, &named.generation))
        goto unfit;
    end = dot != NULL ? dot : end;
    if (dash == NULL || dash == start || !digits(start + (*start == '-'), dash, &at) ||
        at > (uint64_t)INT64_MAX + (*start == '-') || !digits(dash + 1, end, &named.id))
        goto unfit;
    memcpy(named.tenant, path, (size_t)(slash - path));
    named.partition = (uint32_t)partition;
    named.window_start_ms = (int64_t)(*start == '-' ? 0 - at : at);
    blk_fileset_path(&named, again);                   /* only the one way of writing it */
    if (strcmp(again, path) != 0)
        goto unfit;
    *info = named;
    return KL_OK;
unfit:
    return kl_fail(err, KL_EINVAL, "\"%.80s\" is no path of a fileset", path);
}

uint64_t blk_seed(const struct blk_info *info)
{
    char path[BLK_PATH_MAX + 1];

    blk_fileset_path(info, path);
    return kl_hash64(path, strlen(path));
}

void blk_info_fields(const struct blk_info *info, struct kl_buf *out)
{
    kl_buf_addspan(out, kl_span_str(info->tenant));
    kl_buf_addv(out, info->partition);
    kl_buf_addz(out, info->window_start_ms);
    kl_buf_addz(out, info->window_ms);
    kl_buf_addv(out, info->id);
    kl_buf_add64(out, info->incarnation);
    kl_buf_addv(out, info->first_seq);
    kl_buf_addz(out, info->min_ms);
    kl_buf_addz(out, info->max_ms);
    kl_buf_addv(out, info->series_count);
    kl_buf_addv(out, info->sample_count);
    kl_buf_addv(out, info->chunk_bytes);
    kl_buf_add64(out, info->content);
}

bool blk_info_parse(struct kl_cur *c, struct blk_info *info)
{
    struct kl_span tenant = kl_cur_span(c);
    uint64_t       partition = kl_cur_v(c);

    memset(info, 0, sizeof *info);
    if (c->bad || !tenant_ok(tenant.at, tenant.size) || partition > 9999)
        return false;
    memcpy(info->tenant, tenant.at, tenant.size);
    info->partition = (uint32_t)partition;
    info->window_start_ms = kl_cur_z(c);
    info->window_ms = kl_cur_z(c);
    info->id = kl_cur_v(c);
    info->incarnation = kl_cur_64(c);
    info->first_seq = kl_cur_v(c);
    info->min_ms = kl_cur_z(c);
    info->max_ms = kl_cur_z(c);
    info->series_count = kl_cur_v(c);
    info->sample_count = kl_cur_v(c);
    info->chunk_bytes = kl_cur_v(c);
    info->content = kl_cur_64(c);
    return !c->bad && info->window_ms >= 0;
}

bool blk_resolution_read(struct kl_cur *c, struct blk_info *info)
{
    uint64_t seconds = kl_cur_v(c);

    if (c->bad || seconds == 0 || seconds > BLK_RESOLUTION_MAX_MS / 1000)
        return false;
    info->resolution_ms = (int64_t)seconds * 1000;
    return true;
}

void blk_info_write(const struct blk_info *info, struct kl_buf *out)
{
    kl_buf_add(out, "KOAi", 4);
    kl_buf_add8(out, info->resolution_ms != 0 ? 3 : info->generation == 0 ? 1 : 2);
    blk_info_fields(info, out);
    if (info->generation != 0 || info->resolution_ms != 0)
        kl_buf_addv(out, info->generation);
    if (info->resolution_ms != 0)
        kl_buf_addv(out, (uint64_t)info->resolution_ms / 1000);
}

enum kl_code blk_info_read(struct kl_span raw, struct blk_info *info, struct kl_err *err)
{
    struct kl_cur  c = kl_cur(raw.at, raw.size);
    struct kl_span magic = kl_cur_bytes(&c, 4);
    uint8_t        version = kl_cur_8(&c);

    if (c.bad || memcmp(magic.at, "KOAi", 4) != 0)
        return kl_fail(err, KL_ECORRUPT, "not an info file");
    if (version < 1 || version > BLK_INFO_VERSION)
        return kl_fail(err, KL_ECORRUPT, "version %u, which this program does not know", version);
    if (!blk_info_parse(&c, info))
        return kl_fail(err, KL_ECORRUPT, "bad fields");
    if (version > 1)
        info->generation = kl_cur_v(&c);
    if (version > 2 && !blk_resolution_read(&c, info))
        return kl_fail(err, KL_ECORRUPT, "bad resolution");
    if (c.bad || (version > 1 && info->generation == 0) || info->series_count > BLK_SERIES_MAX ||
        kl_cur_left(&c) != 0)
        return kl_fail(err, KL_ECORRUPT, "bad fields");
    return KL_OK;
}
