#include "querier/score.h"

#include <stdlib.h>
#include <string.h>

/* A match that is not exact stays distinguishable from one that is, also when rounded. */
#define NOT_EXACT 0.999
#define PREFIX_WEIGHT 0.1                              /* Winkler's, for up to four runes */

/* ---- runes ---- */

static const struct { uint32_t first, last; int32_t step; bool pairs; } folds[] = {
    { 'A', 'Z', 32, false },
    { 0xc0, 0xd6, 32, false },      { 0xd8, 0xde, 32, false },      /* Latin-1 */
    { 0x100, 0x12f, 1, true },      { 0x132, 0x137, 1, true },      /* Latin Extended-A */
    { 0x139, 0x148, 1, true },      { 0x14a, 0x177, 1, true },
    { 0x178, 0x178, -121, false },  { 0x179, 0x17e, 1, true },
    { 0x386, 0x386, 38, false },    { 0x388, 0x38a, 37, false },    /* Greek */
    { 0x38c, 0x38c, 64, false },    { 0x38e, 0x38f, 63, false },
    { 0x391, 0x3a1, 32, false },    { 0x3a3, 0x3ab, 32, false },
    { 0x400, 0x40f, 80, false },    { 0x410, 0x42f, 32, false },    /* Cyrillic */
    { 0x460, 0x481, 1, true },      { 0x48a, 0x4bf, 1, true },
    { 0x4d0, 0x52f, 1, true },
    { 0x531, 0x556, 48, false },                                    /* Armenian */
    { 0x1e00, 0x1e95, 1, true },    { 0x1ea0, 0x1eff, 1, true },    /* Latin Extended Additional */
    { 0xff21, 0xff3a, 32, false },                                  /* full width */
};

static uint32_t lower(uint32_t c)
{
    for (size_t i = 0; i < sizeof folds / sizeof folds[0] && c >= folds[i].first; i++)
        if (c <= folds[i].last && (!folds[i].pairs || (c - folds[i].first) % 2 == 0))
            return (uint32_t)((int32_t)c + folds[i].step);
    return c;
}

/* The next rune; what is no UTF-8 is U+FFFD, a byte each. */
static uint32_t next_rune(const uint8_t **at, const uint8_t *end)
{
    static const uint32_t least[] = { 0, 0x80, 0x800, 0x10000 };
    uint32_t              c = *(*at)++;
    unsigned              more = c < 0x80 ? 0 : c >= 0xf0 && c < 0xf5 ? 3 : c >= 0xe0 && c < 0xf0 ? 2
                                 : c >= 0xc2 && c < 0xe0 ? 1 : 4;

    if (more == 0)
        return c;
    if (more > 3 || (size_t)(end - *at) < more)
        return 0xfffd;
    c &= 0x3fu >> more;
    for (unsigned i = 0; i < more; i++) {
        if (((*at)[i] & 0xc0) != 0x80)
            return 0xfffd;
        c = c << 6 | ((*at)[i] & 0x3fu);
    }
    if (c < least[more] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
        return 0xfffd;
    *at += more;
    return c;
}

static size_t to_runes(struct kl_span text, bool fold, uint32_t *out)
{
    const uint8_t *at = (const uint8_t *)text.at, *end = at + text.size;
    size_t         count = 0;

    while (at < end) {
        uint32_t c = next_rune(&at, end);

        out[count++] = fold ? lower(c) : c;
    }
    return count;
}

/* ---- terms ---- */

enum kl_code qr_search_term(struct qr_search *s, struct kl_span term, struct kl_err *err)
{
    struct qr_term *t = &s->terms[s->term_count];

    if (term.size == 0)
        return KL_OK;
    if (s->term_count == QR_TERMS_MAX)
        return kl_fail(err, KL_ELIMIT, "more than %d search terms", QR_TERMS_MAX);
    if (term.size > QR_TERM_RUNES_MAX)
        return kl_fail(err, KL_ELIMIT, "a search term has %zu bytes, at most %d are taken",
                       term.size, QR_TERM_RUNES_MAX);
    t->runes = kl_new(term.size * sizeof *t->runes);
    t->count = to_runes(term, s->fold, t->runes);
    s->term_count++;
    return KL_OK;
}

void qr_search_deinit(struct qr_search *s)
{
    for (size_t i = 0; i < s->term_count; i++)
        free(s->terms[i].runes);
    s->term_count = 0;
}

void qr_score_room_deinit(struct qr_score_room *room)
{
    free(room->runes);
    free(room->marks);
    *room = (struct qr_score_room){ 0 };
}

/* ---- subsequence ---- */

/* Of a match that begins at `start`, where the term's first rune stands; false: it has no end. */
static bool score_from(const struct qr_term *t, const uint32_t *text, size_t count, size_t start,
                       double *score)
{
    double unit = 1.0 / (double)count, sum = 0;
    size_t at = start, have = 0, end = 0;              /* end: behind the last run */

    while (have < t->count) {
        size_t from;

        while (at < count && text[at] != t->runes[have])
            at++;
        if (at == count)
            return false;
        from = at;
        while (have < t->count && at < count && text[at] == t->runes[have]) {
            at++;
            have++;
        }
        if (from > end)
            sum -= (double)(from - end) * unit;
        sum += (double)((at - from) * (at - from));
        end = at;
    }
    if (count > end)
        sum -= (double)(count - end) * unit * 0.5;
    *score = sum;
    return true;
}

static double subsequence(const struct qr_term *t, const uint32_t *text, size_t count)
{
    double best = -1, score;

    if (t->count > count)
        return 0;
    if (memcmp(text, t->runes, t->count * sizeof *text) == 0)
        return 1;
    for (size_t i = 0; i + t->count <= count; i++) {
        if (text[i] != t->runes[0])
            continue;
        if (!score_from(t, text, count, i, &score))    /* nor is there one further on */
            break;
        if (score > best)
            best = score;
    }
    return best < 0 ? 0 : best / (double)(t->count * t->count) * NOT_EXACT;
}

/* ---- substring, Jaro-Winkler ---- */

static double substring(const struct qr_term *t, const uint32_t *text, size_t count)
{
    size_t most;

    if (t->count > count)
        return -1;
    most = count - t->count;
    for (size_t i = 0; i <= most; i++)
        if (text[i] == t->runes[0] && memcmp(text + i, t->runes, t->count * sizeof *text) == 0)
            return most == 0 ? 1 : 1 - 0.9 * (double)i / (double)most;
    return -1;
}

static double jaro_winkler(const uint32_t *a, size_t na, const uint32_t *b, size_t nb, bool *marks)
{
    bool  *in_a = marks, *in_b;
    size_t reach, matches = 0, moved = 0, prefix = 0;
    double jaro, m;

    if (na > nb) {
        const uint32_t *x = a;
        size_t          n = na;

        a = b, na = nb;
        b = x, nb = n;
    }
    if (na == 0)
        return 0;
    in_b = marks + na;
    memset(marks, 0, na + nb);
    reach = nb / 2 > 0 ? nb / 2 - 1 : 0;
    for (size_t i = 0; i < na; i++) {
        size_t from = i > reach ? i - reach : 0, to = i + reach + 1 < nb ? i + reach + 1 : nb;

        for (size_t k = from; k < to; k++)
            if (!in_b[k] && a[i] == b[k]) {
                in_a[i] = in_b[k] = true;
                matches++;
                break;
            }
    }
    if (matches == 0)
        return 0;
    for (size_t i = 0, k = 0; i < na; i++) {
        if (!in_a[i])
            continue;
        while (!in_b[k])
            k++;
        moved += a[i] != b[k++];
    }
    m = (double)matches;
    jaro = (m * (1.0 / (double)na) + m * (1.0 / (double)nb) + (m - (double)moved * 0.5) / m) / 3.0;
    while (prefix < 4 && prefix < na && a[prefix] == b[prefix])
        prefix++;
    return jaro + (double)prefix * PREFIX_WEIGHT * (1.0 - jaro);
}

static double similar(const struct qr_search *s, const struct qr_term *t, size_t count,
                      struct qr_score_room *room)
{
    double score = substring(t, room->runes, count);

    if (score >= 0 || s->threshold <= 0)
        return score;
    if (room->marks_room < count + t->count) {
        room->marks_room = (count + t->count) * 2;
        room->marks = kl_resize(room->marks, room->marks_room * sizeof *room->marks);
    }
    score = jaro_winkler(t->runes, t->count, room->runes, count, room->marks);
    return score >= s->threshold ? score : -1;
}

double qr_score(const struct qr_search *s, struct kl_span text, struct qr_score_room *room)
{
    double best = -1;
    size_t count;

    if (s->term_count == 0)
        return 1;
    if (room->runes_room < text.size || room->runes == NULL) {
        room->runes_room = text.size * 2 + 64;
        room->runes = kl_resize(room->runes, room->runes_room * sizeof *room->runes);
    }
    count = to_runes(text, s->fold, room->runes);
    for (size_t i = 0; i < s->term_count && best < 1; i++) {
        double score;

        if (s->alg == QR_FUZZ_JAROWINKLER) {
            score = similar(s, &s->terms[i], count, room);
        } else {
            score = subsequence(&s->terms[i], room->runes, count);
            if (score <= 0 || score < s->threshold)
                score = -1;
        }
        if (score > best)
            best = score;
    }
    return best;
}

uint64_t qr_score_steps(const struct qr_search *s, struct kl_span text)
{
    return 1 + (uint64_t)s->term_count * text.size * text.size;
}
