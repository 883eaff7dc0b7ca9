/*
 * One page of an answer. The plan, made on the loop, finds the series, renders their labels, points
 * at their sealed chunks, which nobody frees while a page is being made, and copies the open tails
 * and late samples. The work encodes the copies and lays out the bytes of libtsproto/select.h. Of an
 * open tail only what lies in the range is sent, as it is: it is read once, so packing it well would
 * cost more than it saves.
 *
 * Chunks of a series may overlap: they stand in the order of precedence, later ones win.
 */
#include "ingestor/ing_priv.h"

#include "libkoal/base/mem.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_GUESS = 16, VALUES_GUESS = 4096 };
enum { TAIL_GUESS = 9, ITEM_GUESS = 64, PLAN_ITEMS_MAX = 65536 };
enum { FOUND_BYTES_MAX = 8 << 20, FOUND_BYTES_SMALL = 256 << 10 };     /* of one; small: kept longer */
enum { INLINE_BYTES = 64 * 1024 };
enum { AHEAD = 6 };                                    /* series are looked at that much later */

struct item {
    struct kl_fp fp;
    size_t   labels, labels_size;                      /* in texts */
    uint32_t chunk, chunk_count;                       /* in chunks */
    struct ing_tail tail;                              /* its bytes at `tail_at` in texts; count 0: none */
    size_t   tail_at;
    size_t   late_at; uint32_t late_count;             /* in lates */
};
struct ing_plan {
    enum tsp_select_what what;
    struct tsp_page   page;
    struct ing_files *files;
    int64_t           from_ms, to_ms;
    size_t            size;                            /* of the page, about */
    bool              on_disk;                         /* some of its chunks lie in a file */
    struct kl_span   *bytes; char *block;              /* then: those of each chunk, read */
    struct item      *items; uint32_t count, room;
    const struct ing_chunk **chunks; uint32_t chunk_count, chunk_room;
    struct ing_late_sample *lates; size_t late_count, late_room;
    struct kl_buf     texts;                           /* labels and tails; or the items themselves */
};

size_t ing_plan_size(const struct ing_plan *plan) { return plan->size + TSP_PAGE_HEAD_SIZE; }

const struct tsp_page *ing_plan_page(const struct ing_plan *plan) { return &plan->page; }

bool ing_plan_is_small(const struct ing_plan *plan) { return plan->size < INLINE_BYTES; }

void ing_plan_free(struct ing_plan *plan)
{
    if (plan == NULL)
        return;
    free(plan->items);
    free(plan->chunks);
    free(plan->bytes);
    free(plan->block);
    free(plan->lates);
    kl_buf_deinit(&plan->texts);
    free(plan);
}

/* ---- what matches, in rising order of fingerprints: kept for later pages and the next query ---- */

struct by_fp { struct kl_fp fp; uint32_t id; };

static int by_fp(const void *a, const void *b)
{
    return kl_fp_cmp(((const struct by_fp *)a)->fp, ((const struct by_fp *)b)->fp);
}

static void found_clear(struct ing_found *f)
{
    free(f->key);
    free(f->ids);
    *f = (struct ing_found){ 0 };
}

void ing_found_drop(struct ing_partition *p)
{
    for (int i = 0; i < ING_FOUND_MAX; i++)
        found_clear(&p->found[i]);
}

void ing_found_tick(struct ing_partition *p, int64_t now_ns)
{
    for (int i = 0; i < ING_FOUND_MAX; i++) {
        struct ing_found *f = &p->found[i];
        int64_t           keep_ms = f->count * sizeof *f->ids <= FOUND_BYTES_SMALL
                                  ? ING_FOUND_KEEP_MS : ING_FOUND_KEEP_LARGE_MS;

        if (f->key != NULL && now_ns - f->used_ns > INT64_C(1000000) * keep_ms)
            found_clear(f);
    }
}

/* The matchers alone: ranges change from query to query. */
static bool found_key(const struct tsp_select *s, struct kl_buf *key)
{
    struct tsp_select plain = { .what = TSP_SEL_SERIES, .tenant = s->tenant,
                                .matcher_count = s->matcher_count };
    struct kl_err     err;

    memcpy(plain.matchers, s->matchers, s->matcher_count * sizeof *s->matchers);
    return tsp_select_encode(&plain, key, &err) == KL_OK;
}

/* A later page goes on with what the first one found; a first one wants what is there now. */
static struct ing_found *found_get(struct ing_partition *p, struct ing_head *h, struct kl_span key,
                                   bool later)
{
    for (int i = 0; i < ING_FOUND_MAX; i++) {
        struct ing_found *f = &p->found[i];

        if (f->key == NULL || f->head != h || !kl_span_eq(kl_span(f->key, f->key_size), key))
            continue;
        if (f->gone != h->gone || (!later && f->born != h->born)) {
            found_clear(f);                            /* a number may mean another series by now */
            return NULL;
        }
        f->used_ns = kl_env_mono_ns(p->i->env);
        return f;
    }
    return NULL;
}

/* Takes the place of the one that was used longest ago. */
static struct ing_found *found_place(struct ing_partition *p)
{
    struct ing_found *f = &p->found[0];

    for (int i = 1; i < ING_FOUND_MAX && f->key != NULL; i++)
        if (p->found[i].key == NULL || p->found[i].used_ns < f->used_ns)
            f = &p->found[i];
    found_clear(f);
    return f;
}

static uint32_t *find(struct ing_head *h, const struct tsp_select *s, uint32_t *count)
{
    roaring_bitmap_t         *set = ing_match(h, s->matchers, s->matcher_count);
    uint64_t                  most = roaring_bitmap_get_cardinality(set);
    struct by_fp             *rows = kl_resize(NULL, (most + 1) * sizeof *rows);
    uint32_t                 *ids, n = 0;
    roaring_uint32_iterator_t it;

    roaring_init_iterator(set, &it);
    for (; it.has_value; roaring_advance_uint32_iterator(&it)) {
        const struct ing_series *x = ing_series_at(h, it.current_value);

        rows[n++] = (struct by_fp){ x->fp, x->id };
    }
    roaring_bitmap_free(set);
    qsort(rows, n, sizeof *rows, by_fp);
    ids = kl_resize(NULL, (n + 1) * sizeof *ids);
    for (uint32_t i = 0; i < n; i++)
        ids[i] = rows[i].id;
    free(rows);
    *count = n;
    return ids;
}

/* ---- series and their chunks ---- */

/* How many samples of a tail a range has, about: as if they were evenly spaced. */
static size_t in_range(const struct ing_tail *t, const struct tsp_select *q)
{
    double from = q->from_ms > t->first_ms ? (double)q->from_ms : (double)t->first_ms;
    double to = q->to_ms < t->last_ms ? (double)q->to_ms : (double)t->last_ms;
    double span = (double)t->last_ms - (double)t->first_ms;

    return span <= 0 ? 1 : (size_t)(2 + (to - from) / span * t->count);
}

static bool plan_chunks(struct ing_plan *plan, struct item *it, const struct ing_series *s,
                        const struct tsp_select *q, size_t *size)
{
    bool tail = s->tail.count > 0 && s->tail.first_ms <= q->to_ms && s->tail.last_ms >= q->from_ms;
    bool tail_only = s->tail.count > 0 && s->tail.first_ms <= q->from_ms;

    it->chunk = plan->chunk_count;
    /* Every chunk ends before the open tail begins: see series.c. */
    for (const struct ing_chunk *c = tail_only ? NULL : s->first; c != NULL; c = c->next) {
        if (c->first_ms > q->to_ms || ing_chunk_last(c) < q->from_ms)
            continue;
        if (plan->chunk_count == plan->chunk_room) {
            plan->chunk_room = plan->chunk_room == 0 ? 64 : plan->chunk_room * 2;
            plan->chunks = kl_resize(plan->chunks, plan->chunk_room * sizeof *plan->chunks);
        }
        plan->chunks[plan->chunk_count++] = c;
        plan->on_disk |= c->file != 0;
        it->chunk_count++;
        *size += c->size + 32;
    }
    if (tail) {
        it->tail = s->tail;
        it->tail_at = plan->texts.size;
        kl_buf_add(&plan->texts, s->tail.bytes, s->tail.size);
        *size += (s->tail.kind == ING_FLOATS ? in_range(&s->tail, q) * TAIL_GUESS
                                             : (size_t)s->tail.size * 2) + 32;
    }
    for (uint32_t i = 0; s->late != NULL && i < s->late->count; i++) {
        if (s->late->at[i].time_ms < q->from_ms || s->late->at[i].time_ms > q->to_ms)
            continue;
        if (plan->late_count == plan->late_room) {
            plan->late_room = plan->late_room == 0 ? 64 : plan->late_room * 2;
            plan->lates = kl_resize(plan->lates, plan->late_room * sizeof *plan->lates);
        }
        if (it->late_count == 0)
            it->late_at = plan->late_count;
        plan->lates[plan->late_count++] = s->late->at[i];
        it->late_count++;
        *size += 2 * TAIL_GUESS;
    }
    return it->chunk_count > 0 || it->tail.count > 0 || it->late_count > 0;
}

static void plan_series(struct ing_plan *plan, struct ing_head *h, const uint32_t *ids,
                        uint32_t count, const struct tsp_select *q)
{
    size_t   size = 0;
    uint32_t at = 0, hi = count;

    while (q->has_cursor && at < hi) {                 /* the first one above the cursor */
        uint32_t mid = (at + hi) / 2;

        if (kl_fp_cmp(ing_series_at(h, ids[mid])->fp, q->cursor_fp) <= 0)
            at = mid + 1;
        else
            hi = mid;
    }
    for (; at < count; at++) {
        const struct ing_series *s = ing_series_at(h, ids[at]);
        struct item              it = { .fp = s->fp };
        size_t                   chunks = plan->chunk_count, text = plan->texts.size, more = 0;
        size_t                   lates = plan->late_count;

        if (at + 2 * AHEAD < count)                    /* they lie anywhere in memory */
            __builtin_prefetch(ing_series_at(h, ids[at + 2 * AHEAD]));
        if (at + AHEAD < count) {
            const struct ing_series *then = ing_series_at(h, ids[at + AHEAD]);

            __builtin_prefetch(then->tail.bytes);
            __builtin_prefetch(then->pairs);
        }
        if (!s->alive)
            continue;
        if (q->what == TSP_SEL_SERIES ? !plan_chunks(plan, &it, s, q, &more)
                                      : !ing_series_meets(s, q->from_ms, q->to_ms))
            continue;
        it.labels = plan->texts.size;
        ing_render(h->pairs.pair_pages, h->pairs.name_pages, s->pairs, s->pair_count, &plan->texts);
        it.labels_size = plan->texts.size - it.labels;
        more += it.labels_size + ITEM_GUESS;
        if (plan->count > 0 && (size + more > TSP_SELECT_PAGE || plan->count == PLAN_ITEMS_MAX ||
                                (q->limit != 0 && plan->count == q->limit))) {
            plan->chunk_count = (uint32_t)chunks;
            plan->texts.size = text;
            plan->late_count = lates;
            plan->page.more = true;
            break;
        }
        size += more;
        if (plan->count == plan->room) {
            plan->room = plan->room == 0 ? 64 : plan->room * 2;
            plan->items = kl_resize(plan->items, plan->room * sizeof *plan->items);
        }
        plan->items[plan->count++] = it;
        plan->page.cursor = it.fp;
    }
    plan->size = size;
}

/* ---- texts: names, values, metadata; laid out at once ---- */

struct meet { struct ing_head *h; const roaring_bitmap_t *set; const struct tsp_select *q; bool met; };

static bool meet(void *ctx, uint32_t id)
{
    struct meet *m = ctx;

    m->met = (m->set == NULL || roaring_bitmap_contains(m->set, id)) &&
             ing_series_meets(ing_series_at(m->h, id), m->q->from_ms, m->q->to_ms);
    return !m->met;
}

/* Does a series of this pair match and have samples in the range? The first that does ends it. */
static bool pair_meets(struct ing_head *h, const struct ing_pair *pair, const roaring_bitmap_t *set,
                       const struct tsp_select *q)
{
    struct meet     m = { .h = h, .set = set, .q = q };
    const uint32_t *few = ing_set_few(&pair->series);

    if (set == NULL && few != NULL) {                  /* nearly always the first */
        for (uint32_t i = 0; i < pair->series.count; i++)
            if (ing_series_meets(ing_series_at(h, few[i]), q->from_ms, q->to_ms))
                return true;
        return false;
    }
    if (set == NULL || pair->series.count <= 32 || ing_set_meets(&pair->series, set))
        ing_set_each(&pair->series, meet, &m);
    return m.met;
}

/* Adds a text to the page; false when it is full. */
static bool text_add(struct ing_plan *plan, const struct tsp_select *q, struct kl_span text)
{
    if (plan->count > 0 && (plan->texts.size + text.size > TSP_SELECT_PAGE ||
                            (q->limit != 0 && plan->count == q->limit))) {
        plan->page.more = true;
        return false;
    }
    kl_buf_addspan(&plan->texts, text);
    plan->count++;
    return true;
}

static bool after_cursor(const struct tsp_select *q, struct kl_span text)
{
    return !q->has_cursor || kl_span_cmp(text, q->cursor_text) > 0;
}

static int by_text(const void *a, const void *b)
{
    return kl_span_cmp(*(const struct kl_span *)a, *(const struct kl_span *)b);
}

static void plan_names(struct ing_plan *plan, struct ing_head *h, const roaring_bitmap_t *set,
                       const struct tsp_select *q)
{
    struct kl_span *names = kl_resize(NULL, (h->pairs.name_count + 1) * sizeof *names);
    uint32_t        count = 0;

    for (uint32_t i = 0; i < h->pairs.name_count; i++) {
        const struct ing_name *n = ing_name_at(h->pairs.name_pages, i);
        struct kl_span         text = ing_text(n->text);

        if (!after_cursor(q, text))
            continue;
        for (uint32_t k = 0; k < n->count; k++)
            if (pair_meets(h, ing_pair_at(h->pairs.pair_pages, n->values[k]), set, q)) {
                names[count++] = text;
                break;
            }
    }
    qsort(names, count, sizeof *names, by_text);
    for (uint32_t i = 0; i < count && text_add(plan, q, names[i]); i++)
        ;
    free(names);
}

/* Pairs, their texts and their series lie anywhere in memory. */
static void look_ahead(const struct ing_head *h, const struct ing_name *n, uint32_t k)
{
    if (k + 2 * AHEAD < n->count)
        __builtin_prefetch(ing_pair_at(h->pairs.pair_pages, n->values[k + 2 * AHEAD]));
    if (k + AHEAD < n->count) {
        const struct ing_pair *then = ing_pair_at(h->pairs.pair_pages, n->values[k + AHEAD]);
        const uint32_t        *few = ing_set_few(&then->series);

        __builtin_prefetch(then->text);
        if (few == &then->series.one && then->series.count > 0)
            __builtin_prefetch(&ing_series_at(h, *few)->tail);
        else
            __builtin_prefetch(few);
    }
}

static void plan_values(struct ing_plan *plan, struct ing_head *h, const roaring_bitmap_t *set,
                        const struct tsp_select *q)
{
    uint32_t         name = ing_pairs_name(&h->pairs, q->label, false);
    struct ing_name *n;

    if (name == ING_NONE)
        return;
    n = ing_name_at(h->pairs.name_pages, name);
    ing_pairs_sort(&h->pairs, n);
    kl_buf_reserve(&plan->texts, (n->count < VALUES_GUESS ? n->count : VALUES_GUESS) * TEXT_GUESS);
    for (uint32_t k = 0; k < n->count; k++) {
        look_ahead(h, n, k);

        const struct ing_pair *pair = ing_pair_at(h->pairs.pair_pages, n->values[k]);
        struct kl_span         text = ing_text(pair->text);

        if (after_cursor(q, text) && pair_meets(h, pair, set, q) && !text_add(plan, q, text))
            break;
    }
}

static void plan_metadata(struct ing_plan *plan, const struct ing_head *h, const struct tsp_select *q)
{
    const struct ing_extras *x = h->extras;

    for (uint32_t i = 0; x != NULL && i < x->meta_count; i++) {
        const struct ing_meta *m = &x->metas[i];

        if (q->limit != 0 && plan->count == q->limit)
            break;
        kl_buf_addspan(&plan->texts, m->metric);
        kl_buf_add8(&plan->texts, m->type);
        kl_buf_addspan(&plan->texts, m->unit);
        kl_buf_addspan(&plan->texts, m->help);
        plan->count++;
    }
}

/* ---- plan and render ---- */

/* The regexes are compiled where they are needed. */
static bool compile(struct ing_question *of, struct kl_err *err)
{
    if (!of->compiled && tsp_select_compile(&of->select, err) != KL_OK)
        return false;
    of->compiled = true;
    return true;
}

static bool plan_matched(struct ing_partition *p, struct ing_plan *plan, struct ing_head *h,
                         struct ing_question *of, struct kl_err *err)
{
    const struct tsp_select *q = &of->select;
    struct kl_buf     key;
    bool              keyed;
    struct ing_found *f = NULL;
    uint32_t         *ids, count;

    kl_buf_init(&key, KL_BUS_MESSAGE_MAX);
    keyed = found_key(q, &key);
    if (keyed)
        f = found_get(p, h, kl_buf_span(&key), q->has_cursor);
    if (f != NULL) {
        plan_series(plan, h, f->ids, f->count, q);
        kl_buf_deinit(&key);
        return true;
    }
    if (!compile(of, err)) {
        kl_buf_deinit(&key);
        return false;
    }
    ids = find(h, q, &count);
    plan_series(plan, h, ids, count, q);
    if (keyed && count * sizeof *ids <= FOUND_BYTES_MAX) {
        f = found_place(p);
        f->key = kl_resize(NULL, key.size + 1);
        memcpy(f->key, key.at, key.size);
        f->key_size = key.size;
        f->ids = ids;
        f->count = count;
        f->head = h;
        f->gone = h->gone;
        f->born = h->born;
        f->used_ns = kl_env_mono_ns(p->i->env);
    } else {
        free(ids);
    }
    kl_buf_deinit(&key);
    return true;
}

struct ing_plan *ing_plan_new(struct ing_partition *p, struct ing_question *of, struct kl_err *err)
{
    const struct tsp_select *q = &of->select;
    struct ing_tenant       *t = ing_tenant(p, q->tenant, false);
    struct ing_plan         *plan = kl_new(sizeof *plan);

    plan->what = q->what;
    plan->files = &p->files;
    plan->from_ms = q->from_ms;
    plan->to_ms = q->to_ms;
    plan->page = (struct tsp_page){ .applied_seq = p->applied, .incarnation = p->incarnation,
                                    .placement_revision = atomic_load(&p->i->placement_revision),
                                    .catalogue_revision = p->manifest.revision,
                                    .late_writes = p->late_writes,
                                    .stale = q->consistency == TSP_READ_ANY &&
                                             ing_log_stale_ms(p) > ING_STALE_MS };
    if (q->what == TSP_SEL_MARKS)
        ing_marks_tell(&p->marks, q->from_ms, q->to_ms, &plan->texts);
    if (t == NULL || q->what == TSP_SEL_MARKS)
        return plan;
    if (q->what == TSP_SEL_SERIES || q->what == TSP_SEL_LABELS) {
        if (!plan_matched(p, plan, t->head, of, err)) {
            ing_plan_free(plan);
            return NULL;
        }
    } else if (q->what == TSP_SEL_METADATA) {
        plan_metadata(plan, t->head, q);
    } else if (q->what == TSP_SEL_NAMES || q->what == TSP_SEL_VALUES ||
               q->what == TSP_SEL_EXEMPLARS) {
        roaring_bitmap_t *set = NULL;                  /* NULL: all of them */

        if (!compile(of, err)) {
            ing_plan_free(plan);
            return NULL;
        }
        if (q->matcher_count > 0)
            set = ing_match(t->head, q->matchers, q->matcher_count);
        if (q->what == TSP_SEL_EXEMPLARS)
            ing_exemplars_page(t->head, set, q, &plan->texts, &plan->page);
        else if (q->what == TSP_SEL_NAMES)
            plan_names(plan, t->head, set, q);
        else
            plan_values(plan, t->head, set, q);
        if (set != NULL)
            roaring_bitmap_free(set);
        plan->size = plan->texts.size;
    } else {
        kl_fail(err, KL_EINVAL, "a question of an unknown kind");
        ing_plan_free(plan);
        return NULL;
    }
    return plan;
}

static enum kl_code add_encoded(struct kl_buf *out, struct kl_span chunk, struct kl_err *err)
{
    struct blk_chunk_head head;

    if (blk_chunk_peek(chunk, &head, err) != KL_OK)
        return err->code;
    kl_buf_addz(out, head.first_ms);
    kl_buf_addv(out, (uint64_t)head.last_ms - (uint64_t)head.first_ms);
    kl_buf_addv(out, head.count);
    kl_buf_add8(out, (uint8_t)head.kind);
    kl_buf_addspan(out, chunk);
    return KL_OK;
}

static enum kl_code add_lates(struct kl_buf *out, const struct ing_late_sample *l, uint32_t count,
                              struct kl_buf *scratch, struct kl_err *err)
{
    int64_t times[ING_LATE_MAX], starts[ING_LATE_MAX];
    double  values[ING_LATE_MAX];
    bool    any = false;

    for (uint32_t i = 0; i < count; i++) {
        times[i] = l[i].time_ms;
        starts[i] = l[i].start_ms;
        values[i] = l[i].value;
        any |= starts[i] != 0;
    }
    kl_buf_reset(scratch);
    blk_chunk_encode(times, values, any ? starts : NULL, count, scratch);
    return add_encoded(out, kl_buf_span(scratch), err);
}

/* Samples [from, from + count) of an open tail, as a chunk. */
static void add_run(struct kl_buf *out, const struct ing_run *run, uint32_t from, uint32_t count,
                    struct kl_buf *scratch)
{
    const int64_t *starts = NULL;

    for (uint32_t i = from; i < from + count && starts == NULL; i++)
        if (run->starts[i] != 0)
            starts = run->starts + from;
    kl_buf_reset(scratch);
    blk_chunk_encode_quick(run->times + from, run->values + from, starts, count, scratch);
    kl_buf_addz(out, run->times[from]);
    kl_buf_addv(out, (uint64_t)run->times[from + count - 1] - (uint64_t)run->times[from]);
    kl_buf_addv(out, count);
    kl_buf_add8(out, BLK_FLOATS);
    kl_buf_addspan(out, kl_buf_span(scratch));
}

static enum kl_code render_item(const struct ing_plan *plan, const struct item *it,
                                struct ing_run *room, struct kl_buf *out, struct kl_buf *scratch,
                                struct kl_err *err)
{
    struct ing_tail       tail = it->tail;
    const struct ing_run *run = NULL;
    uint32_t              from = 0, to = 0;

    if (tail.count > 0) {
        tail.bytes = (uint8_t *)plan->texts.at + it->tail_at;
        if (tail.kind == ING_FLOATS) {
            ing_tail_floats(&tail, room);
            for (to = room->count; to > 0 && room->times[to - 1] > plan->to_ms; to--)
                ;
            while (from < to && room->times[from] < plan->from_ms)
                from++;
            if (from < to)
                run = room;
            else
                tail.count = 0;                        /* the range lies between two samples */
        }
    }
    kl_buf_add64(out, it->fp.hi);
    kl_buf_add64(out, it->fp.lo);
    kl_buf_addspan(out, kl_span(plan->texts.at + it->labels, it->labels_size));
    if (plan->what == TSP_SEL_LABELS)
        return KL_OK;
    kl_buf_addv(out, it->chunk_count + (tail.count > 0) + (it->late_count > 0));
    for (uint32_t i = 0; i < it->chunk_count; i++) {
        const struct ing_chunk *c = plan->chunks[it->chunk + i];

        kl_buf_addz(out, c->first_ms);
        kl_buf_addv(out, c->span_ms);
        kl_buf_addv(out, c->count);
        kl_buf_add8(out, c->kind);
        kl_buf_addspan(out, plan->on_disk ? plan->bytes[it->chunk + i] : kl_span(c->bytes, c->size));
    }
    if (run != NULL) {
        add_run(out, run, from, to - from, scratch);
    } else if (tail.count > 0) {
        kl_buf_reset(scratch);
        if (ing_tail_encode(&tail, scratch, err) != KL_OK ||
            add_encoded(out, kl_buf_span(scratch), err) != KL_OK)
            return err->code;
    }
    return it->late_count == 0 ? KL_OK
         : add_lates(out, plan->lates + it->late_at, it->late_count, scratch, err);
}

static enum kl_code read_chunks(struct ing_plan *plan, bool at_hand, struct kl_err *err)
{
    free(plan->block);
    plan->block = NULL;
    plan->bytes = kl_resize(plan->bytes, (plan->chunk_count + 1) * sizeof *plan->bytes);
    return ing_chunks_bytes(plan->files, plan->chunks, plan->chunk_count, at_hand, plan->bytes, &plan->block,
                            err);
}

void ing_plan_render(struct ing_plan *plan, bool at_hand, struct kl_buf *out, enum kl_code *code,
                     struct kl_err *err)
{
    struct kl_buf  scratch = { 0 };
    struct ing_run run;

    *code = plan->on_disk ? read_chunks(plan, at_hand, err) : KL_OK;
    if (*code != KL_OK)
        return;
    kl_buf_reserve(out, plan->size + TSP_PAGE_HEAD_SIZE);
    out->over = false;                                 /* a guess: what is written decides */
    tsp_page_begin(out);
    if (plan->what != TSP_SEL_SERIES && plan->what != TSP_SEL_LABELS)
        kl_buf_add(out, plan->texts.at, plan->texts.size);
    for (uint32_t i = 0; plan->items != NULL && i < plan->count && *code == KL_OK; i++) {
        size_t before = out->size;

        *code = render_item(plan, &plan->items[i], &run, out, &scratch, err);
        if (!kl_buf_ok(out) && i > 0 && *code == KL_OK) {
            /* More than was guessed: this one begins the next page. */
            out->size = before;
            out->over = false;
            plan->page.more = true;
            plan->page.cursor = plan->items[i - 1].fp;
            break;
        }
    }
    kl_buf_deinit(&scratch);
    if (*code == KL_OK && !kl_buf_ok(out))
        *code = kl_fail(err, KL_ELIMIT, "one answer is larger than a message of %d bytes",
                        KL_BUS_MESSAGE_MAX);
    if (*code == KL_OK)
        tsp_page_end(out, &plan->page);
}
