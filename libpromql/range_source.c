/* Series of range vectors as arrays. A selector's series without stale markers and histograms, and a
 * subquery's row without gaps, are used where they lie. */
#include <stdlib.h>
#include <string.h>

#include "libpromql/hist_priv.h"

void pql_room_free(struct pql_room *r)
{
    free(r->ft);
    free(r->fst);
    free(r->ht);
    free(r->hst);
    free(r->fv);
    free(r->fu);
    free(r->hv);
}

static void make_room(struct pql_room *r, uint32_t count)
{
    if (count <= r->room)
        return;
    r->room = count + count / 2 + 64;
    r->ft = kl_resize(r->ft, r->room * sizeof *r->ft);
    r->fst = kl_resize(r->fst, r->room * sizeof *r->fst);
    r->ht = kl_resize(r->ht, r->room * sizeof *r->ht);
    r->hst = kl_resize(r->hst, r->room * sizeof *r->hst);
    r->fv = kl_resize(r->fv, r->room * sizeof *r->fv);
    r->hv = kl_resize(r->hv, r->room * sizeof *r->hv);
}

static bool has_stale(const double *v, uint32_t count)
{
    uint64_t found = 0;

    for (uint32_t i = 0; i < count; i++)
        found |= kl_f64_bits(v[i]) == KL_STALE_BITS;
    return found != 0;
}

void pql_source_series(const struct pql_series *in, struct pql_room *r, struct pql_source *s)
{
    s->f = (struct pql_samples){ in->times_ms, in->values, in->starts_ms, in->count, in->unseen };
    s->h = (struct pql_hists){ .count = 0 };
    if (in->hists == NULL && !has_stale(in->values, in->count))
        return;
    make_room(r, in->count);
    if (in->unseen != NULL)
        r->fu = kl_resize(r->fu, r->room * sizeof *r->fu);
    s->f = (struct pql_samples){ r->ft, r->fv, in->starts_ms != NULL ? r->fst : NULL, 0, in->unseen != NULL ? r->fu : NULL };
    s->h = (struct pql_hists){ r->ht, r->hv, in->starts_ms != NULL ? r->hst : NULL, 0 };
    for (uint32_t i = 0; i < in->count; i++) {
        const struct kl_hist *h = in->hists != NULL ? in->hists[i] : NULL;
        int64_t               st = in->starts_ms != NULL ? in->starts_ms[i] : 0;

        if (h != NULL && !kl_is_stale(h->sum)) {
            r->ht[s->h.count] = in->times_ms[i];
            r->hst[s->h.count] = st;
            r->hv[s->h.count++] = h;
        } else if (h == NULL && !kl_is_stale(in->values[i])) {
            r->ft[s->f.count] = in->times_ms[i];
            r->fst[s->f.count] = st;
            if (in->unseen != NULL)
                r->fu[s->f.count] = in->unseen[i];
            r->fv[s->f.count++] = in->values[i];
        }
    }
}

/* The operator a subquery is evaluated by, or NULL. */
static const struct pql_op *subquery(const struct pql_op *op)
{
    for (uint32_t i = 0; op->need == 0 && i < op->in_count; i++)
        if (op->node->args[i]->kind == N_SUBQUERY)
            return op->in[i];
    return NULL;
}

static bool from_row(struct pql_op *op, unsigned worker, const struct pql_op *sub, uint32_t k,
                     struct pql_room *r, struct pql_source *s)
{
    const struct pql_row *row = &sub->out.at[k];

    make_room(r, sub->grid.count);
    s->f = (struct pql_samples){ r->ft, r->fv, NULL, 0 };
    s->h = (struct pql_hists){ r->ht, r->hv, NULL, 0 };
    for (uint32_t i = 0; i < sub->grid.count; i++) {
        if (row->has[i] == P_FLOAT) {
            r->ft[s->f.count] = pql_at(sub->grid, i);
            r->fv[s->f.count++] = row->v[i];
        } else if (row->has[i] == P_HIST) {
            const struct kl_hist *h = row->h[i];
            /* Steps may skip samples: what the hints say of the one before no longer holds. */
            if (h->reset == KL_HIST_RESET || h->reset == KL_HIST_NO_RESET)
                h = pql_hist_hinted(op, worker, h, KL_HIST_UNKNOWN);
            if (h == NULL)
                return false;
            r->ht[s->h.count] = pql_at(sub->grid, i);
            r->hv[s->h.count++] = h;
        }
    }
    return true;
}

uint32_t pql_source_count(const struct pql_op *op)
{
    const struct pql_op *sub = subquery(op);

    return sub != NULL ? sub->out.count : op->need != 0 ? pql_op_fed(op)->count : 0;
}

size_t pql_source_bytes(const struct pql_op *op)
{
    const struct pql_op *sub = subquery(op);
    size_t               each = sizeof(int64_t) + sizeof(double);

    for (uint32_t i = 0; sub != NULL && i < sub->out.count; i++)
        if (sub->out.at[i].h != NULL) {
            each += sizeof(int64_t) + sizeof(struct kl_hist *);
            break;
        }
    return sub != NULL ? each * sub->grid.count : 0;
}

bool pql_source_get(struct pql_op *op, unsigned worker, uint32_t i, struct pql_room *room,
                    struct pql_source *s)
{
    const struct pql_op *sub = subquery(op);

    if (sub != NULL) {
        s->part = 0;
        s->labels = sub->out.at[i].labels;
        s->drop_name = sub->out.at[i].drop_name;
        return from_row(op, worker, sub, i, room, s);
    }
    struct pql_series        loaded;
    const struct pql_series *in = pql_op_series(op, worker, i, &loaded);

    if (in == NULL)
        return false;
    s->labels = in->labels;
    s->part = in->part;
    s->drop_name = false;
    pql_source_series(in, room, s);
    return true;
}
