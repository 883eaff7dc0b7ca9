#ifndef ING_TIDY_PRIV_H
#define ING_TIDY_PRIV_H
/*
 * Housekeeping of a partition's catalogue: what is past its retention is dropped, small and
 * overlapping filesets are merged into larger windows, what is corrupt is marked, what is gone is
 * removed. One thing at a time in a partition, one compaction at a time in an ingestor.
 *
 *   LIVE partition, nothing under way: ing_tidy_plan says what is worth doing
 *     -> drop: a commit alone
 *     -> compact: slices of work (open, merge a slice, ..., finish, upload), then a commit
 *     -> obey: what deletions hide, or rules of retention no longer keep, in filesets is looked for; where there is some, each is written anew
 *        without it, the others are only noted; then a commit
 *     -> forget: deletions that hide nothing any more are listed no more: a commit alone
 *     -> check: a fileset marked corrupt is read again once after a start; well: a commit
 *     -> orphans: what the store has and nothing names is listed as gone (orphans.c): a commit
 *     -> sweep: objects and manifests that have been gone for ING_OLD_MS are removed
 *
 * Rollups are made in the pass that makes a fileset of the tenant's window, and go when it is replaced; when
 * it is past its retention they stay for theirs. They are merged with nothing.
 *
 * A commit is a job of the partition's queue (flush.c), so it takes its turn among the cuts. It swaps
 * inputs for outputs by the catalogue's compare-and-set: a reader finds the old or the new, never
 * both; who reads by the old manifest still finds the old filesets for ING_OLD_MS.
 *
 * A failure: what was written is removed, nothing else has changed, and it is tried later. A crash
 * leaves: outputs that no manifest names. They are found by their local folders at the next start,
 * which is removed last, and removed from the store as well. What was dropped is listed as gone in
 * the manifest until it has been removed.
 */
#include "libblock/compact.h"
#include "libblock/manifest.h"
#include "libkoal/base/retention.h"
#include "libkoal/env/sched.h"

/* ---- tidy_plan.c: what is worth doing. A pure function. ---- */
struct ing_tidy_rules {
    int64_t  block_ms;                                 /* the window of a cut */
    int64_t  settle_ms;                                /* a window is merged this long after its end */
    uint32_t files_min;                                /* so many small ones are worth a merge */
    uint64_t bytes_max;                                /* of what is merged at once; 0: nothing is */
    bool     busy;                                     /* nothing that writes filesets */
    int64_t  deletion_ms;                              /* a deletion is obeyed so long after it came, */
    uint64_t clean_number;                             /* or at once, up to this number */
    /* Of one tenant. Retention 0: for ever. The window is what is aimed at. */
    void   (*tenant)(void *ctx, const char *tenant, int64_t *retention_ms, int64_t *window_ms);
    /* How long each rollup is kept; 0: none is made. NULL: none of any tenant. */
    void   (*rollups)(void *ctx, const char *tenant, int64_t keep_ms[BLK_ROLLUPS_MAX]);
    /* Rules for some of its series: the caller's to free; NULL: there are none. The function may be NULL. */
    struct kl_retention *(*keep)(void *ctx, const char *tenant);
    /* Is it known that the rules leave that fileset as it is? NULL: of none. */
    bool   (*thinned)(void *ctx, uint64_t hash);
    void    *ctx;
};
enum ing_tidy_what { ING_TIDY_NOTHING, ING_TIDY_DROP, ING_TIDY_COMPACT, ING_TIDY_CHECK, ING_TIDY_SWEEP,
                     ING_TIDY_ORPHANS, ING_TIDY_OBEY, ING_TIDY_FORGET };
enum { ING_TIDY_DROPS_MAX = 1000, ING_TIDY_OBEY_MAX = 16, ING_TIDY_PIECES_MAX = 64 };
struct ing_tidy_output {
    uint32_t first, count;                             /* of the inputs */
    int64_t  window_start_ms, window_ms;               /* window_ms 0: what is left of an input */
    int64_t  from_ms, to_ms;                           /* the samples, both included; 0, 0: all */
    uint8_t  rolls;                                    /* rollups made besides: bit i, blk_rollup_ms[i] */
};
struct ing_tidy_plan {
    enum ing_tidy_what what;
    struct blk_info   *inputs; uint32_t input_count;   /* malloc'ed; compact: the later win */
    struct ing_tidy_output *outputs; uint32_t output_count;    /* malloc'ed; obey: found when opened */
    struct blk_deletion   **deletions; uint32_t deletion_count;    /* that concern the inputs; references */
    uint64_t           obeyed;                         /* the outputs have, up to this number */
    /* Behind the inputs there: rollups of some, read for rows that no samples are left of (keep.c) */
    uint32_t           carried_count;
    uint32_t          *carrier;                        /* of each: whose it is; malloc'ed */
    /* Of the inputs' tenant */
    struct kl_retention *keep;                         /* or NULL; owned */
    int64_t            now_ms, retention_ms, rows_ms[BLK_ROLLUPS_MAX], window_ms;
    uint64_t           made;                           /* compact: of all, not 0; obey: a bit an input: its
                                                          samples may go, as for rows */
};
void ing_tidy_plan(const struct blk_manifest *m, const struct ing_tidy_rules *rules, int64_t now_ms,
                   struct ing_tidy_plan *plan);
void ing_tidy_plan_deinit(struct ing_tidy_plan *plan);

/* tidy_obey.c, part of it: filesets whose deletions are due. False: none. */
bool ing_tidy_plan_obey(const struct blk_manifest *m, const struct ing_tidy_rules *rules, int64_t now_ms,
                        struct ing_tidy_plan *plan);
/* Which rollups shall be made of a window of the tenant, or of a part of one that stays in parts. */
uint8_t ing_tidy_rolls(const struct ing_tidy_rules *r, const char *tenant, int64_t window_ms);
/* Where a rollup of that fileset is in the manifest; fileset_count: nowhere. */
uint32_t ing_tidy_rollup_of(const struct blk_manifest *m, const struct blk_info *f, unsigned roll);
/* Where the fileset that a rollup was made of is; fileset_count: it is there no more. */
uint32_t ing_tidy_source_of(const struct blk_manifest *m, const struct blk_info *rollup);

/* ---- tidy_keep.c: rules of retention, for samples and for rows. Pure functions. ---- */
/* What holds for the tenant, into the plan; its rules before go. */
void     ing_tidy_keep_of(const struct ing_tidy_rules *r, const char *tenant, struct ing_tidy_plan *plan);
/* Is all of the fileset past what the rules, and `otherwise_ms`, keep of it? Owned by nobody: keep may be NULL. */
int64_t  ing_tidy_longest(const struct kl_retention *keep, const struct blk_info *f, int64_t otherwise_ms);
/* Rows that are kept longer than samples are made, or never will be: the samples may go. */
bool     ing_tidy_made(const struct blk_manifest *m, const struct ing_tidy_plan *plan, const struct blk_info *f);
/* Of a fileset and those rules whose time has come for it; 0: of none. `made`: as above. */
uint64_t ing_tidy_thin(const struct ing_tidy_plan *plan, const struct blk_info *f, bool made);
/* Does nothing keep this series in that fileset? */
bool     ing_tidy_outlived(const struct ing_tidy_plan *plan, const struct blk_info *f, struct kl_labels labels,
                           bool made);
/* The rollups of inputs that may have rows without samples, or such that are past their time: into the plan. */
void     ing_tidy_carry(const struct blk_manifest *m, struct ing_tidy_plan *plan);

/* Takes the deletions that concern the inputs: all, or the first so many that one series' spans fit. */
void ing_tidy_plan_deletions(const struct blk_manifest *m, struct ing_tidy_plan *plan);

/* ---- tidy.c: doing it ---- */
struct ing_partition;
struct ing_job;
enum ing_tidy_step { ING_TIDY_OPEN, ING_TIDY_BEGIN, ING_TIDY_MERGE, ING_TIDY_FINISH,
                     ING_TIDY_UPLOAD, ING_TIDY_BLAME, ING_TIDY_REMOVE, ING_TIDY_ABANDON,
                     ING_TIDY_DONE };
struct ing_tidy {
    struct ing_partition *p;
    struct ing_tidy_plan plan;
    enum ing_tidy_step step;
    uint64_t generation;                               /* of the outputs */
    uint32_t at;                                       /* the input, or the output, at hand */
    struct kl_env_dir   *filesets;                     /* our own handle */
    struct blk_fileset **open;                         /* of the inputs, and what is carried */
    struct blk_carried *carried;                       /* of the output at hand, by rollup */
    struct blk_compaction *running;
    struct blk_compact   compact;
    struct blk_info      named;                        /* the output at hand, */
    struct blk_info      rolls[BLK_ROLLUPS_MAX]; uint32_t roll_count;      /* and its rollups */
    struct blk_info     *done; uint32_t done_count;    /* outputs that are in the store */
    bool    *bad;                                      /* of those: corrupt; checked: well */
    uint32_t bad_count;
    bool     compacting;                               /* holds the ingestor's one turn */
    struct blk_manifest known;                         /* orphans: the catalogue when it was begun */
    char   (*paths)[BLK_PATH_MAX + 1]; uint32_t path_count;    /* those; sweep: gone filesets, */
    uint64_t *revisions; uint32_t revision_count;      /* and manifests */
    bool     committed;
    bool     perhaps;                                  /* its commit had no answer: it may have landed, or yet land */
    struct kl_env_task work, back;
    enum kl_code  code;
    struct kl_err err;
};
void ing_tidy_tick(struct ing_partition *p);
void ing_tidy_free(struct ing_tidy *t);
/* Of a job that commits: into its manifest; false when what it builds upon is no longer there. */
bool ing_tidy_apply(struct ing_tidy *t, struct blk_manifest *m, int64_t now_ms);
void ing_tidy_committed(struct ing_tidy *t);
/* ---- tidy_next.c: what is to be done, into the plan; false: nothing ---- */
bool ing_tidy_next(struct ing_partition *p, struct ing_tidy *t);
/* ---- tidy_slice.c: the next slice, on a worker; then `back` is posted ---- */
void ing_tidy_go(struct ing_tidy *t);
void ing_tidy_work(struct kl_env_task *task);          /* that of t->work */
/* After the commit, or when there shall be none: removes what is not needed. */
enum kl_code ing_tidy_clean(struct ing_tidy *t, struct kl_err *err);
/* ---- tidy_obey.c: on a worker ---- */
uint32_t     ing_tidy_hide(void *tidy, const struct blk_info *input, struct kl_labels labels,
                           struct blk_hidden *ranges); /* of struct blk_compact */
bool         ing_tidy_rows(void *tidy, int64_t resolution_ms, struct kl_labels labels);
/* Is there a series in the open input, or rollup of one, that its deletions mean? Then it gets an output. */
enum kl_code ing_tidy_look(struct ing_tidy *t, uint32_t input, struct kl_err *err);
/* ---- orphans.c ---- */
enum { ING_ORPHANS_MAX = 256, ING_ORPHANS_LOOK_MS = 6 * 3600 * 1000 };
bool         ing_orphans_plan(struct ing_partition *p, struct ing_tidy *t);    /* is it time? */
enum kl_code ing_orphans_find(struct ing_tidy *t, struct kl_err *err);         /* on a worker */
void         ing_orphans_apply(struct ing_tidy *t, struct blk_manifest *m, int64_t now_ms);
#endif
