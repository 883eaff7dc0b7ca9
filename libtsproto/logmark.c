#include "libtsproto/logmark.h"

#include "libtsproto/small_priv.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { VERSION = 1, DIGITS = 4 };

void tsp_logmark_key(char *key, size_t size, uint32_t partition)
{
    snprintf(key, size, TSP_LOGMARK_PREFIX "%04" PRIu32, partition);
}

bool tsp_logmark_of(const char *key, uint32_t *partition)
{
    const char *digits = key + sizeof TSP_LOGMARK_PREFIX - 1;

    if (strncmp(key, TSP_LOGMARK_PREFIX, sizeof TSP_LOGMARK_PREFIX - 1) != 0 ||
        strlen(digits) != DIGITS || strspn(digits, "0123456789") != DIGITS)
        return false;
    *partition = (uint32_t)strtoul(digits, NULL, 10);
    return true;
}

void tsp_logmark_encode(const struct tsp_logmark *m, struct kl_buf *out)
{
    size_t begin = tsp_small_begin(out, "KL", VERSION, m->lost_count);

    kl_buf_add64(out, m->incarnation);
    for (uint32_t i = 0; i < m->lost_count; i++) {
        kl_buf_add64(out, m->lost[i].incarnation);
        kl_buf_add64(out, m->lost[i].first_seq);
        kl_buf_add64(out, (uint64_t)m->lost[i].from_ms);
        kl_buf_add64(out, (uint64_t)m->lost[i].to_ms);
    }
    tsp_small_end(out, begin);
}

enum kl_code tsp_logmark_decode(struct kl_span bytes, struct tsp_logmark *m, struct kl_err *err)
{
    struct tsp_logmark got = { 0 };
    struct kl_cur      c;
    uint8_t            version;

    if (tsp_small_open(bytes, "KL", VERSION, "the mark of a log", &c, &version, &got.lost_count, err) != KL_OK)
        return err->code;
    got.incarnation = kl_cur_64(&c);
    if (got.lost_count > TSP_LOST_MAX)
        return kl_fail(err, KL_ECORRUPT, "the mark of a log that was lost %" PRIu32 " times", got.lost_count);
    for (uint32_t i = 0; i < got.lost_count; i++) {
        got.lost[i].incarnation = kl_cur_64(&c);
        got.lost[i].first_seq = kl_cur_64(&c);
        got.lost[i].from_ms = (int64_t)kl_cur_64(&c);
        got.lost[i].to_ms = (int64_t)kl_cur_64(&c);
    }
    if (c.bad || kl_cur_left(&c) != 0)
        return kl_fail(err, KL_ECORRUPT, "the mark of a log that is too long or too short");
    *m = got;
    return KL_OK;
}

void tsp_logmark_turn(struct tsp_logmark *m, uint64_t incarnation, const struct tsp_lost *lost)
{
    if (m->lost_count == TSP_LOST_MAX) {
        if (m->lost[1].from_ms > m->lost[0].from_ms)
            m->lost[1].from_ms = m->lost[0].from_ms;
        memmove(m->lost, m->lost + 1, (TSP_LOST_MAX - 1) * sizeof *m->lost);
        m->lost_count--;
    }
    m->lost[m->lost_count++] = *lost;
    m->incarnation = incarnation;
}

static void stamp(int64_t ms, char out[40])
{
    time_t    s = (time_t)(ms / 1000);
    struct tm t;

    if (gmtime_r(&s, &t) == NULL || strftime(out, 40, "%Y-%m-%dT%H:%M:%SZ", &t) == 0)
        snprintf(out, 40, "%" PRId64 " ms", ms);
}

void tsp_lost_words(const struct tsp_lost *l, char *out, size_t size)
{
    char from[40], to[40];

    stamp(l->from_ms, from);
    stamp(l->to_ms, to);
    snprintf(out, size, "records from %" PRIu64 " on of its log of incarnation %" PRIu64 ", written "
             "between %s and %s, are lost if there were any: the log was made anew", l->first_seq,
             l->incarnation, from, to);
}

/* ---- skips ---- */

void tsp_logskip_key(char *key, size_t size, uint32_t partition)
{
    snprintf(key, size, TSP_LOGSKIP_PREFIX "%04" PRIu32, partition);
}

void tsp_logskip_encode(const struct tsp_logskip *s, struct kl_buf *out)
{
    size_t begin = tsp_small_begin(out, "KS", VERSION, s->count);

    for (uint32_t i = 0; i < s->count; i++) {
        kl_buf_add64(out, s->at[i].incarnation);
        kl_buf_add64(out, s->at[i].seq);
    }
    tsp_small_end(out, begin);
}

enum kl_code tsp_logskip_decode(struct kl_span bytes, struct tsp_logskip *s, struct kl_err *err)
{
    struct tsp_logskip got = { 0 };
    struct kl_cur      c;
    uint8_t            version;

    if (tsp_small_open(bytes, "KS", VERSION, "a list of skipped records", &c, &version, &got.count, err) != KL_OK)
        return err->code;
    if (got.count > TSP_SKIPS_MAX)
        return kl_fail(err, KL_ECORRUPT, "a list of %" PRIu32 " skipped records", got.count);
    for (uint32_t i = 0; i < got.count; i++) {
        got.at[i].incarnation = kl_cur_64(&c);
        got.at[i].seq = kl_cur_64(&c);
    }
    if (c.bad || kl_cur_left(&c) != 0)
        return kl_fail(err, KL_ECORRUPT, "a list of skipped records that is too long or too short");
    *s = got;
    return KL_OK;
}

bool tsp_logskip_has(const struct tsp_logskip *s, uint64_t incarnation, uint64_t seq)
{
    for (uint32_t i = 0; i < s->count; i++)
        if (s->at[i].incarnation == incarnation && s->at[i].seq == seq)
            return true;
    return false;
}

enum kl_code tsp_logskip_add(struct tsp_logskip *s, uint64_t incarnation, uint64_t seq, struct kl_err *err)
{
    uint32_t kept = 0;

    if (tsp_logskip_has(s, incarnation, seq))
        return KL_OK;
    if (s->count == TSP_SKIPS_MAX) {
        for (uint32_t i = 0; i < s->count; i++)
            if (s->at[i].incarnation == incarnation)
                s->at[kept++] = s->at[i];
        s->count = kept;
    }
    if (s->count == TSP_SKIPS_MAX)
        return kl_fail(err, KL_ELIMIT, "%d records of this log are skipped already", TSP_SKIPS_MAX);
    s->at[s->count++] = (struct tsp_skip){ incarnation, seq };
    return KL_OK;
}
