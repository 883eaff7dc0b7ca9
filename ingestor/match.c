/*
 * Which series a list of matchers means, by set operations. A regular expression is asked once per
 * distinct value of its label, of which a literal prefix leaves only a range; series are looked at
 * one by one only where other matchers have left fewer than the label has values. A matcher that the empty string satisfies also means series without the
 * label, so it takes away what it does not match, in place of adding what it does.
 */
#include "ingestor/head_priv.h"

#include <stdlib.h>

enum { FEW_OF_VALUES = 4 };                            /* a series costs as much as so many values */

static roaring_bitmap_t *set_new(void)
{
    roaring_bitmap_t *r = roaring_bitmap_create();

    if (r == NULL)
        abort();
    return r;
}

static const struct kl_span nothing = { "", 0 };

/* The union over the values of `name` for which the matcher says `want`. */
static roaring_bitmap_t *values_that(struct ing_head *h, struct ing_name *n,
                                     const struct kl_matcher *m, bool want)
{
    struct ing_pairs *p = &h->pairs;
    roaring_bitmap_t *r = set_new();
    bool              re = m->op == KL_MATCH_RE || m->op == KL_MATCH_NRE;
    bool              straight = want == (m->op == KL_MATCH_RE || m->op == KL_MATCH_EQ);
    const struct kl_span *set;
    struct kl_span    prefix = nothing;
    size_t            set_count = re ? kl_regex_set(m->re, &set) : 0;
    uint32_t          i = 0;

    if (set_count > 0 && straight) {                   /* a set of literals: look each up */
        for (size_t k = 0; k < set_count; k++) {
            uint32_t pair = ing_pairs_get(p, m->name, set[k], false);

            if (pair != ING_NONE)
                ing_set_or(&ing_pair_at(p->pair_pages, pair)->series, r);
        }
        return r;
    }
    if (re && straight)
        prefix = kl_regex_prefix(m->re);
    if (prefix.size > 0) {
        uint32_t hi = n->count;

        ing_pairs_sort(p, n);
        while (i < hi) {
            uint32_t mid = (i + hi) / 2;

            if (kl_span_cmp(ing_text(ing_pair_at(p->pair_pages, n->values[mid])->text), prefix) < 0)
                i = mid + 1;
            else
                hi = mid;
        }
    }
    for (; i < n->count; i++) {
        const struct ing_pair *pair = ing_pair_at(p->pair_pages, n->values[i]);
        struct kl_span         value = ing_text(pair->text);

        if (prefix.size > 0 &&
            (value.size < prefix.size || memcmp(value.at, prefix.at, prefix.size) != 0))
            break;
        if (pair->series.count > 0 && kl_matcher_test(m, value) == want)
            ing_set_or(&pair->series, r);
    }
    return r;
}

/* Of few series, those that fit: cheaper than all values of a label that nearly each has its own of. */
static roaring_bitmap_t *series_that(struct ing_head *h, uint32_t name, const struct kl_matcher *m,
                                     const roaring_bitmap_t *of)
{
    struct ing_pairs         *p = &h->pairs;
    roaring_bitmap_t         *r = set_new();
    roaring_uint32_iterator_t it;
    uint32_t                  last = ING_NONE;
    bool                      empty_fits = kl_matcher_test(m, nothing), fits = false;

    roaring_init_iterator(of, &it);
    for (; it.has_value; roaring_advance_uint32_iterator(&it)) {
        const struct ing_series *s = ing_series_at(h, it.current_value);
        uint32_t                 pair = ING_NONE;

        for (uint32_t i = 0; i < s->pair_count && pair == ING_NONE; i++)
            if (ing_pair_at(p->pair_pages, s->pairs[i])->name == name)
                pair = s->pairs[i];
        if (pair != ING_NONE && pair != last) {
            fits = kl_matcher_test(m, ing_text(ing_pair_at(p->pair_pages, pair)->text));
            last = pair;
        }
        if (pair == ING_NONE ? empty_fits : fits)
            roaring_bitmap_add(r, s->id);
    }
    return r;
}

/* Keeps in *r what the matcher means. *r NULL: nothing was said yet, all series. */
static void keep(struct ing_head *h, const struct kl_matcher *m, roaring_bitmap_t **r)
{
    struct ing_pairs *p = &h->pairs;
    bool              empty_fits = kl_matcher_test(m, nothing);
    uint32_t          name = ing_pairs_name(p, m->name, false);
    roaring_bitmap_t *those;

    if (name == ING_NONE) {                            /* no series has the label */
        if (!empty_fits && *r == NULL)
            *r = set_new();
        else if (!empty_fits)
            roaring_bitmap_clear(*r);
        return;
    }
    if (m->op == KL_MATCH_EQ || m->op == KL_MATCH_NE) {
        uint32_t pair = m->value.size == 0 ? ING_NONE : ing_pairs_get(p, m->name, m->value, false);

        if (m->value.size > 0) {
            static const struct ing_set none = { 0 };
            const struct ing_set *s = pair == ING_NONE ? &none
                                                       : &ing_pair_at(p->pair_pages, pair)->series;

            if (m->op == KL_MATCH_NE) {
                if (*r == NULL)
                    *r = roaring_bitmap_copy(h->all);
                ing_set_andnot(s, *r);
            } else if (*r == NULL) {
                *r = set_new();
                ing_set_or(s, *r);
            } else {
                ing_set_and(s, *r);
            }
            return;
        }
    }
    if (*r != NULL && roaring_bitmap_get_cardinality(*r) <
                      ing_name_at(p->name_pages, name)->count / FEW_OF_VALUES) {
        those = series_that(h, name, m, *r);
        roaring_bitmap_free(*r);
        *r = those;
        return;
    }
    those = values_that(h, ing_name_at(p->name_pages, name), m, !empty_fits);
    if (empty_fits) {
        if (*r == NULL)
            *r = roaring_bitmap_copy(h->all);
        roaring_bitmap_andnot_inplace(*r, those);
        roaring_bitmap_free(those);
    } else if (*r == NULL) {
        *r = those;
    } else {
        roaring_bitmap_and_inplace(*r, those);
        roaring_bitmap_free(those);
    }
}

/* Equalities first, regular expressions last: an empty set ends it. */
static int cost(const struct kl_matcher *m)
{
    if (m->op == KL_MATCH_EQ)
        return m->value.size > 0 ? 0 : 2;
    return m->op == KL_MATCH_NE ? 1 : m->op == KL_MATCH_RE ? 3 : 4;
}

roaring_bitmap_t *ing_match(struct ing_head *h, const struct kl_matcher *m, size_t count)
{
    roaring_bitmap_t *r = NULL;

    for (int round = 0; round <= 4; round++)
        for (size_t i = 0; i < count; i++)
            if (cost(&m[i]) == round) {
                keep(h, &m[i], &r);
                if (r != NULL && roaring_bitmap_is_empty(r))
                    return r;
            }
    if (r == NULL)
        r = roaring_bitmap_copy(h->all);
    if (r == NULL)
        abort();
    return r;
}
