/*
 * Arithmetic and comparison between two vectors.
 *
 * Rows meet by signature (their labels on(), or without ignoring()). Where a signature has one row on
 * each side, the usual case, the columns are combined in one loop. Else it is done step by step as
 * Prometheus does: the one side must have one sample, each many-side sample makes a result, and no two
 * results may have equal labels. Missing samples are filled where fill() says so.
 */
#include <stdlib.h>
#include <string.h>

#include "libpromql/match_priv.h"

struct pql_sides *pql_sides_new(struct pql_op *op)
{
    const struct pql_matching *m = op->node->matching;
    const struct pql_rows     *l = &op->in[0]->out, *r = &op->in[1]->out;
    struct pql_sides          *s = pql_zalloc(op, 0, sizeof *s);
    struct pql_names           names = { .count = m->label_count };
    struct kl_buf              scratch;
    bool                       fine = true;

    if (s == NULL)
        return NULL;
    names.at = pql_alloc(op, 0, (m->label_count + 1) * sizeof *names.at);
    s->left = pql_alloc(op, 0, (l->count + 1) * sizeof *s->left);
    s->right = pql_alloc(op, 0, (r->count + 1) * sizeof *s->right);
    if (names.at == NULL || s->left == NULL || s->right == NULL
        || !pql_index_new(op, &s->index, l->count + r->count + 1))
        return NULL;
    if (m->label_count > 0)
        memcpy(names.at, m->labels, m->label_count * sizeof *names.at);
    if (!m->on)
        names.at[names.count++] = kl_span_str("__name__");
    kl_buf_init(&scratch, 4 * KL_LABELS_BYTES_MAX);
    for (uint32_t i = 0; fine && i < l->count; i++)
        fine = (s->left[i] = pql_index_key(op, &s->index, &scratch, l->at[i].labels, names, m->on))
               != UINT32_MAX;
    for (uint32_t i = 0; fine && i < r->count; i++)
        fine = (s->right[i] = pql_index_key(op, &s->index, &scratch, r->at[i].labels, names, m->on))
               != UINT32_MAX;
    kl_buf_deinit(&scratch);
    return fine ? s : NULL;
}

/* Many and one: left and right, but for group_right the other way round. */
struct match {
    struct pql_sides *sides;
    const struct pql_rows *many, *one;
    uint32_t *many_rows, *many_begins, *one_rows, *one_begins;    /* rows by signature */
    uint32_t *pairs;                                   /* where a signature's rows begin in out */
    bool swapped, one_to_one, fill_many, fill_one;
    double fill_many_value, fill_one_value;
    uint8_t *any_many, *any_one;                       /* steps where a side has anything at all */
};

static bool by_signature(struct pql_op *op, const uint32_t *signature, uint32_t count,
                         uint32_t signatures, uint32_t **rows, uint32_t **begins)
{
    uint32_t *b = pql_zalloc(op, 0, (signatures + 2) * sizeof *b);
    uint32_t *r = pql_alloc(op, 0, (count + 1) * sizeof *r);

    if (b == NULL || r == NULL)
        return false;
    for (uint32_t i = 0; i < count; i++)
        b[signature[i] + 2]++;
    for (uint32_t i = 2; i < signatures + 2; i++)
        b[i] += b[i - 1];
    for (uint32_t i = 0; i < count; i++)
        r[b[signature[i] + 1]++] = i;
    *rows = r;
    *begins = b;
    return true;
}

static uint32_t of(const uint32_t *begins, uint32_t s) { return begins[s + 1] - begins[s]; }

/* How many output rows a signature can need: each many-side row with each one-side row, either with
 * the other's fill. */
static uint64_t rows_of(const struct match *m, uint32_t s)
{
    uint64_t many = of(m->many_begins, s), one = of(m->one_begins, s);

    return many * one + (m->fill_one ? many : 0) + (m->fill_many ? one : 0);
}

static uint8_t *anything(struct pql_op *op, const struct pql_rows *rows)
{
    uint8_t *any = pql_zalloc(op, 0, op->grid.count + 1);

    for (uint32_t k = 0; any != NULL && k < rows->count; k++)
        for (uint32_t i = 0; i < op->grid.count; i++)
            any[i] |= rows->at[k].has[i];
    return any;
}

static struct match *make(struct pql_op *op)
{
    const struct pql_matching *mm = op->node->matching;
    struct match              *m = pql_zalloc(op, 0, sizeof *m);
    uint32_t                   n;
    bool                       swap = mm->card == CARD_ONE_TO_MANY;

    if (m == NULL || (m->sides = pql_sides_new(op)) == NULL)
        return NULL;
    n = m->sides->index.count;
    m->swapped = swap;
    m->one_to_one = mm->card == CARD_ONE_TO_ONE;
    m->many = &op->in[swap]->out;
    m->one = &op->in[!swap]->out;
    /* As Prometheus has it: after the swap for group_right the fills stay where they were. */
    m->fill_one = mm->fill_right;
    m->fill_one_value = mm->fill_right_value;
    m->fill_many = mm->fill_left;
    m->fill_many_value = mm->fill_left_value;
    if (!by_signature(op, swap ? m->sides->right : m->sides->left, m->many->count, n, &m->many_rows,
                      &m->many_begins)
        || !by_signature(op, swap ? m->sides->left : m->sides->right, m->one->count, n, &m->one_rows,
                         &m->one_begins))
        return NULL;
    m->any_many = anything(op, m->many);
    m->any_one = anything(op, m->one);
    m->pairs = pql_alloc(op, 0, (n + 1) * sizeof *m->pairs);
    return m->pairs != NULL && m->any_one != NULL && m->any_many != NULL ? m : NULL;
}

static void prepare(struct pql_op *op)
{
    struct match *m = make(op);
    uint64_t      rows = 0;

    op->own = m;
    op->shares = true;
    if (m == NULL)
        return;
    for (uint32_t s = 0; s < m->sides->index.count; s++) {
        m->pairs[s] = (uint32_t)rows;
        rows += rows_of(m, s);
        if (rows > op->q->series_max) {
            pql_fail(op->q, PQL_EXECUTION, "binary operation would make more than %llu series",
                     (unsigned long long)op->q->series_max);
            return;
        }
    }
    m->pairs[m->sides->index.count] = (uint32_t)rows;
    if (pql_out_rows(op, (uint32_t)rows) != NULL)
        pql_slice(op, m->sides->index.count, 200 + 10ull * op->grid.count);
}

/* ---- labels of a result ---- */

static struct kl_labels result_labels(struct pql_op *op, unsigned worker, struct kl_labels many,
                                      struct kl_labels one)
{
    const struct pql_matching *m = op->node->matching;
    struct kl_labels           l = many;
    struct pql_names           names = { m->label_count, m->labels };

    if (pql_changes_name(op->node->op))
        l = pql_labels_bare(op, worker, l);
    if (m->card == CARD_ONE_TO_ONE)
        l = m->on ? pql_labels_keep(op, worker, l, names) : pql_labels_drop(op, worker, l, names);
    for (uint32_t i = 0; i < m->include_count; i++)
        l = pql_labels_set(op, worker, l, m->include[i], kl_labels_get(one, m->include[i]));
    return l;
}

/* What a filled sample is called: the labels the other side's would have matched by. */
static struct kl_labels filled_labels(struct pql_op *op, unsigned worker, struct kl_labels l)
{
    const struct pql_matching *m = op->node->matching;
    struct pql_names           names = { m->label_count, m->labels };
    struct pql_names           name = { 1, &(struct kl_span){ "__name__", 8 } };

    return m->on ? pql_labels_keep(op, worker, l, names)
         : pql_labels_drop(op, worker, pql_labels_drop(op, worker, l, names), name);
}

/* ---- errors ---- */

static void duplicate(struct pql_op *op, unsigned worker, const struct match *m,
                      const struct pql_row *a, const struct pql_row *b)
{
    struct kl_buf    group, ta, tb;
    bool             second_first;

    kl_buf_init(&group, 300);
    kl_buf_init(&ta, 300);
    kl_buf_init(&tb, 300);
    pql_labels_text(&group, filled_labels(op, worker, b->labels));
    pql_labels_text(&ta, a->labels);
    pql_labels_text(&tb, b->labels);
    second_first = kl_span_cmp(kl_buf_span(&ta), kl_buf_span(&tb)) > 0;
    pql_fail(op->q, PQL_EXECUTION, "found duplicate series for the match group %.*s on the %s hand-side "
             "of the operation: [%.*s, %.*s];many-to-many matching not allowed: matching labels must be "
             "unique on one side", (int)group.size, group.at, m->swapped ? "left" : "right",
             (int)(second_first ? tb.size : ta.size), second_first ? tb.at : ta.at,
             (int)(second_first ? ta.size : tb.size), second_first ? ta.at : tb.at);
    kl_buf_deinit(&group);
    kl_buf_deinit(&ta);
    kl_buf_deinit(&tb);
}

/* ---- one signature ---- */

static void emit(struct pql_op *op, unsigned worker, struct pql_row *out, uint32_t i,
                 struct pql_operand many, struct pql_operand one)
{
    const struct match *m = op->own;
    struct pql_operand  r;
    bool                keep;

    if (!pql_elem(op, worker, i, m->swapped ? one : many, m->swapped ? many : one, true, &keep, &r))
        return;
    if (op->node->bool_modifier)
        r = (struct pql_operand){ keep ? 1 : 0, NULL };
    else if (!keep)
        return;
    if (r.h == NULL)
        pql_put(out, i, r.v);
    else if (pql_row_hists(op, worker, out))
        pql_put_hist(out, i, r.h);
}

static struct pql_row *row_of(struct pql_op *op, unsigned worker, struct pql_row *out,
                              struct kl_labels many, struct kl_labels one)
{
    if (out->v == NULL) {
        if (!pql_rows_new(op, worker, out, 1, false))
            return NULL;
        out->labels = result_labels(op, worker, many, one);
        out->drop_name = op->node->bool_modifier;
    }
    return out;
}

/* One row on either side: columns. */
static void pair(struct pql_op *op, unsigned worker, const struct match *m, uint32_t s)
{
    const struct pql_row *many = &m->many->at[m->many_rows[m->many_begins[s]]];
    const struct pql_row *one = &m->one->at[m->one_rows[m->one_begins[s]]];
    struct pql_row       *out = row_of(op, worker, &op->out.at[m->pairs[s]], many->labels, one->labels);
    uint8_t               t = op->node->op;

    if (out == NULL)
        return;
    if (many->h == NULL && one->h == NULL && pql_changes_name(t)) {
        const struct pql_row *a = m->swapped ? one : many, *b = m->swapped ? many : one;
        bool                  keep;
        for (uint32_t i = 0; i < op->grid.count; i++)
            if (a->has[i] != P_NONE && b->has[i] != P_NONE)
                pql_put(out, i, pql_binop(t, a->v[i], b->v[i], &keep));
        return;
    }
    for (uint32_t i = 0; i < op->grid.count; i++)
        if (many->has[i] != P_NONE && one->has[i] != P_NONE)
            emit(op, worker, out, i, pql_operand(many, i), pql_operand(one, i));
}

/* The one side's row at step i, UINT32_MAX when there is none; fails on two. */
static uint32_t only_one(struct pql_op *op, unsigned worker, const struct match *m, uint32_t s,
                         uint32_t i)
{
    uint32_t found = UINT32_MAX;

    for (uint32_t k = m->one_begins[s]; k < m->one_begins[s + 1]; k++) {
        if (m->one->at[m->one_rows[k]].has[i] == P_NONE)
            continue;
        if (found != UINT32_MAX) {
            duplicate(op, worker, m, &m->one->at[m->one_rows[found]], &m->one->at[m->one_rows[k]]);
            return UINT32_MAX;
        }
        found = k;
    }
    return found;
}

/* Two results of one step and signature with equal labels; only the rows that have samples count. */
static bool clashes(struct pql_op *op, const struct match *m, uint32_t s, uint32_t row,
                    const uint8_t *used)
{
    for (uint32_t k = m->pairs[s]; k < m->pairs[s + 1]; k++)
        if (k != row && used[k - m->pairs[s]] && op->out.at[k].v != NULL
            && pql_labels_eq(op->out.at[k].labels, op->out.at[row].labels))
            return true;
    return false;
}

struct used { uint8_t *rows; bool may_clash; };

static bool claim(struct pql_op *op, const struct match *m, uint32_t s, uint32_t row,
                  const struct used *used, uint32_t *matched)
{
    if (m->one_to_one && *matched > 0) {
        pql_fail(op->q, PQL_EXECUTION, "multiple matches for labels: many-to-one matching must be "
                 "explicit (group_left/group_right)");
        return false;
    }
    if (!m->one_to_one && *matched > 0 && used->may_clash && clashes(op, m, s, row, used->rows)) {
        pql_fail(op->q, PQL_EXECUTION,
                 "multiple matches for labels: grouping labels must ensure unique matches");
        return false;
    }
    used->rows[row - m->pairs[s]] = 1;
    (*matched)++;
    return true;
}

/* Whether the operator applies to the kinds of samples: what does not is no match either. */
static bool applies(struct pql_op *op, const struct match *m, struct pql_operand many,
                    struct pql_operand one)
{
    struct pql_operand a = m->swapped ? one : many, b = m->swapped ? many : one;
    uint8_t            t = op->node->op;

    if (a.h == NULL && b.h == NULL)
        return t != T_TRIM_LOWER && t != T_TRIM_UPPER;
    if (a.h != NULL && b.h != NULL)
        return t == T_EQLC || t == T_NEQ
               || ((t == T_ADD || t == T_SUB) && pql_hist_custom(a.h) == pql_hist_custom(b.h));
    if (a.h == NULL)
        return t == T_MUL;
    return t == T_MUL || t == T_DIV || t == T_TRIM_LOWER || t == T_TRIM_UPPER;
}

static void step(struct pql_op *op, unsigned worker, const struct match *m, uint32_t s, uint32_t i,
                 const struct used *used)
{
    uint32_t many_count = of(m->many_begins, s), one_count = of(m->one_begins, s), matched = 0;
    uint32_t one = only_one(op, worker, m, s, i), fill_row = m->pairs[s] + many_count * one_count;

    memset(used->rows, 0, m->pairs[s + 1] - m->pairs[s]);
    for (uint32_t k = 0; k < many_count && !pql_failed(op->q); k++) {
        const struct pql_row *lr = &m->many->at[m->many_rows[m->many_begins[s] + k]];
        struct pql_operand    l, r = { m->fill_one_value, NULL };
        struct kl_labels      labels = { .at = NULL, .size = 0 };
        uint32_t              row;

        if (lr->has[i] == P_NONE || (one == UINT32_MAX && !m->fill_one))
            continue;
        l = pql_operand(lr, i);
        if (one != UINT32_MAX) {
            const struct pql_row *rr = &m->one->at[m->one_rows[one]];
            r = pql_operand(rr, i);
            labels = rr->labels;
            row = m->pairs[s] + k * one_count + (one - m->one_begins[s]);
        } else {
            labels = filled_labels(op, worker, lr->labels);
            row = fill_row + k;
        }
        if (row_of(op, worker, &op->out.at[row], lr->labels, labels) == NULL)
            return;
        if (!applies(op, m, l, r)) {
            emit(op, worker, &op->out.at[row], i, l, r);      /* says so */
            continue;
        }
        if (!claim(op, m, s, row, used, &matched))
            return;
        emit(op, worker, &op->out.at[row], i, l, r);
    }
    if (m->fill_many && matched == 0 && one != UINT32_MAX && !pql_failed(op->q)) {
        const struct pql_row *rr = &m->one->at[m->one_rows[one]];
        uint32_t row = fill_row + (m->fill_one ? many_count : 0) + (one - m->one_begins[s]);
        if (row_of(op, worker, &op->out.at[row], filled_labels(op, worker, rr->labels), rr->labels)
            != NULL)
            emit(op, worker, &op->out.at[row], i, (struct pql_operand){ m->fill_many_value, NULL },
                 pql_operand(rr, i));
    }
}

static int by_hash(const void *pa, const void *pb)
{
    uint64_t a = *(const uint64_t *)pa, b = *(const uint64_t *)pb;

    return (a > b) - (a < b);
}

/* Whether two results can have equal labels: looked at once where there is one row on the one side. */
static bool may_clash(struct pql_op *op, unsigned worker, const struct match *m, uint32_t s)
{
    uint32_t  many = of(m->many_begins, s);
    uint64_t *hashes;
    bool      equal = false;

    if (m->one_to_one || m->fill_many || m->fill_one || of(m->one_begins, s) != 1)
        return true;
    hashes = pql_alloc(op, worker, (many + 1) * sizeof *hashes);
    for (uint32_t k = 0; hashes != NULL && k < many; k++) {
        struct kl_labels l = result_labels(op, worker,
                                           m->many->at[m->many_rows[m->many_begins[s] + k]].labels,
                                           m->one->at[m->one_rows[m->one_begins[s]]].labels);
        hashes[k] = kl_hash64(l.at, l.size);
    }
    if (hashes == NULL)
        return true;
    qsort(hashes, many, sizeof *hashes, by_hash);
    for (uint32_t k = 1; k < many; k++)
        equal |= hashes[k] == hashes[k - 1];
    return equal;
}

static void signature(struct pql_op *op, unsigned worker, const struct match *m, uint32_t s)
{
    uint32_t    many = of(m->many_begins, s), one = of(m->one_begins, s);
    bool        fills = m->fill_many || m->fill_one;
    struct used used;

    if (rows_of(m, s) == 0 && one < 2)
        return;
    if (many == 1 && one == 1 && !fills) {
        pair(op, worker, m, s);
        return;
    }
    used.rows = pql_alloc(op, worker, rows_of(m, s) + 1);
    used.may_clash = may_clash(op, worker, m, s);
    for (uint32_t i = 0; used.rows != NULL && i < op->grid.count && !pql_failed(op->q); i++)
        /* Where a side has nothing at all, nothing is looked at: no duplicates are found either. */
        if ((m->any_many[i] && m->any_one[i]) || (fills && (m->any_many[i] || m->any_one[i])))
            step(op, worker, m, s, i, &used);
}

static void item(struct pql_op *op, size_t item, unsigned worker)
{
    const struct match *m = op->own;
    uint32_t            from, to;

    pql_slice_of(op, item, m->sides->index.count, &from, &to);
    for (uint32_t s = from; s < to && !pql_failed(op->q); s++)
        signature(op, worker, m, s);
}

/* The answer follows the many side's order, as far as a signature has one row there. */
static void reorder(struct pql_op *op, const struct match *m)
{
    const uint32_t *signature = m->swapped ? m->sides->right : m->sides->left;
    struct pql_row *rows = pql_alloc(op, 0, ((size_t)op->out.count + 1) * sizeof *rows);
    uint32_t       *next = pql_alloc(op, 0, (m->sides->index.count + 1) * sizeof *next);
    uint32_t        n = 0;

    if (rows == NULL || next == NULL)
        return;
    memcpy(next, m->pairs, (m->sides->index.count + 1) * sizeof *next);
    for (uint32_t k = 0; k < m->many->count; k++) {
        uint32_t s = signature[k], each = of(m->one_begins, s);
        for (uint32_t e = 0; e < each && next[s] < m->pairs[s + 1]; e++)
            rows[n++] = op->out.at[next[s]++];
    }
    for (uint32_t s = 0; s < m->sides->index.count; s++)
        while (next[s] < m->pairs[s + 1])
            rows[n++] = op->out.at[next[s]++];
    op->out.at = rows;
    op->out.count = n;
}

static void finish(struct pql_op *op)
{
    const struct match *m = op->own;

    if (m == NULL || op->out.count == 0)
        return;
    reorder(op, m);
    pql_drop_empty(op);
    if (op->grid.count > 1)
        pql_join_equal(op);
}
const struct pql_op_kind pql_op_match = { "binary", prepare, item, finish };
