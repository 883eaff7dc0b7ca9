#include "libtsproto/override.h"

#include "libkoal/base/config.h"
#include "libkoal/base/hash.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { VERSION = 1 };

void tsp_override_key(struct kl_span tenant, char *out, size_t size)
{
    struct kl_fp h = kl_hash128(tenant.at, tenant.size);

    snprintf(out, size, TSP_OVERRIDE_PREFIX "%016" PRIx64 "%016" PRIx64, h.hi, h.lo);
}

/* One text with its quotes; false: it is none. */
static bool skip_text(struct kl_cur *c)
{
    if (kl_cur_8(c) != '"')
        return false;
    while (!c->bad) {
        uint8_t b = kl_cur_8(c);

        if (b == '"')
            return !c->bad;
        if (b < 0x20)
            return false;
        if (b == '\\') {
            b = kl_cur_8(c);
            if (c->bad || b == 0 || strchr("\"\\/bfnrtu", b) == NULL)
                return false;
            for (int i = 0; b == 'u' && i < 4; i++) {
                uint8_t digit = kl_cur_8(c);

                if (digit == 0 || strchr("0123456789abcdefABCDEF", digit) == NULL)
                    return false;
            }
        }
    }
    return false;
}

static void skip_blanks(struct kl_cur *c)
{
    while (kl_cur_left(c) > 0 && *c->at == ' ')
        c->at++;
}

/* {"option": "text", ...}: it is put into answers as it is, so its form is nobody's to choose. */
static bool is_object_of_texts(struct kl_span s)
{
    struct kl_cur c = kl_cur(s.at, s.size);
    uint8_t       b = ',';

    if (kl_cur_8(&c) != '{')
        return false;
    if (kl_cur_left(&c) == 1)
        return kl_cur_8(&c) == '}';
    while (b == ',' && !c.bad) {
        skip_blanks(&c);
        if (!skip_text(&c) || kl_cur_8(&c) != ':')
            return false;
        skip_blanks(&c);
        if (!skip_text(&c))
            return false;
        b = kl_cur_8(&c);
    }
    return b == '}' && !c.bad && kl_cur_left(&c) == 0;
}

static bool fits(const struct tsp_override_version *v)
{
    return v->number > 0 && v->of < v->number && v->time_ms >= 0 && v->by.size <= TSP_OVERRIDE_BY_MAX &&
           v->note.size <= TSP_OVERRIDE_NOTE_MAX && v->all.size <= TSP_OVERRIDE_ALL_MAX && is_object_of_texts(v->all);
}

enum kl_code tsp_override_read(struct kl_span bytes, struct tsp_override *o, struct kl_err *err)
{
    struct kl_cur c = kl_cur(bytes.at, bytes.size < 4 ? 0 : bytes.size - 4);
    struct kl_cur tail;
    uint8_t       version = kl_cur_8(&c);
    uint64_t      count;

    if (c.bad || bytes.size > TSP_OVERRIDE_VALUE_MAX)
        return kl_fail(err, KL_ECORRUPT, "override: of %zu bytes", bytes.size);
    if (version > VERSION)
        return kl_fail(err, KL_ELIMIT, "override: version %u is newer than what this program knows", version);
    tail = kl_cur((const char *)bytes.at + bytes.size - 4, 4);
    if (kl_crc32c(0, bytes.at, bytes.size - 4) != kl_cur_32(&tail))
        return kl_fail(err, KL_ECORRUPT, "override: its checksum is wrong");
    o->tenant = kl_cur_span(&c);
    count = kl_cur_v(&c);
    if (c.bad || version != VERSION || !kl_tenant_ok(o->tenant) || count == 0 || count > TSP_OVERRIDE_VERSIONS_MAX)
        return kl_fail(err, KL_ECORRUPT, "override: its head is no head");
    for (uint32_t i = 0; i < count; i++) {
        struct tsp_override_version *v = &o->versions[i];

        *v = (struct tsp_override_version){ .number = kl_cur_v(&c) };
        v->time_ms = (int64_t)kl_cur_v(&c);
        v->of = kl_cur_v(&c);
        v->by = kl_cur_span(&c);
        v->note = kl_cur_span(&c);
        v->all = kl_cur_span(&c);
        if (c.bad || !fits(v) || (i > 0 && v->number >= v[-1].number))
            return kl_fail(err, KL_ECORRUPT, "override: its version at %" PRIu32 " is none", i);
    }
    if (kl_cur_left(&c) != 0)
        return kl_fail(err, KL_ECORRUPT, "override: bytes behind its end");
    o->count = (uint32_t)count;
    return KL_OK;
}

static size_t weight(const struct tsp_override_version *v)
{
    return 3 * 10 + 3 * 3 + v->by.size + v->note.size + v->all.size;    /* varints at their longest */
}

enum kl_code tsp_override_write(const struct tsp_override *o, struct kl_buf *out, struct kl_err *err)
{
    size_t   size = 1 + 3 + o->tenant.size + 1 + 4, begin = out->size;
    uint32_t count = 0;

    if (!kl_tenant_ok(o->tenant) || o->count == 0 || o->count > TSP_OVERRIDE_VERSIONS_MAX)
        return kl_fail(err, KL_EINVAL, "override: no tenant, or no versions");
    for (uint32_t i = 0; i < o->count; i++)
        if (!fits(&o->versions[i]) || (i > 0 && o->versions[i].number >= o->versions[i - 1].number))
            return kl_fail(err, KL_EINVAL, "override: a version past its bounds");
    while (count < o->count && size + weight(&o->versions[count]) <= TSP_OVERRIDE_VALUE_MAX)
        size += weight(&o->versions[count++]);
    kl_buf_add8(out, VERSION);
    kl_buf_addspan(out, o->tenant);
    kl_buf_addv(out, count);
    for (uint32_t i = 0; i < count; i++) {
        const struct tsp_override_version *v = &o->versions[i];

        kl_buf_addv(out, v->number);
        kl_buf_addv(out, (uint64_t)v->time_ms);
        kl_buf_addv(out, v->of);
        kl_buf_addspan(out, v->by);
        kl_buf_addspan(out, v->note);
        kl_buf_addspan(out, v->all);
    }
    kl_buf_add32(out, kl_crc32c(0, out->at + begin, out->size - begin));
    return KL_OK;
}

_Static_assert(TSP_OVERRIDE_ALL_MAX + TSP_OVERRIDE_BY_MAX + TSP_OVERRIDE_NOTE_MAX + 400 < TSP_OVERRIDE_VALUE_MAX,
               "the newest version always fits");
