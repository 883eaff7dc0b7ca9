#ifndef KL_MEM_H
#define KL_MEM_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Memory: small fixed things abort without memory; whatever input sizes comes from a capped arena
 * or charges a budget, and refuses past it.
 */

/* For small things of fixed size: zeroed, never NULL: aborts without memory. free() frees it. */
void *kl_new(size_t size_bytes);
/* Grow or shrink; aborts without memory. For things whose size a named _MAX bounds. */
void *kl_resize(void *p, size_t size_bytes);
char *kl_strdup(const char *text);                     /* aborts without memory */

/* A borrowed run of bytes. Whoever hands it out says how long it lives. */
struct kl_span { const void *at; size_t size; };
static inline struct kl_span kl_span(const void *at, size_t size)
{
    return (struct kl_span){ .at = at, .size = size };
}
struct kl_span kl_span_str(const char *text);          /* without the terminating NUL */
bool           kl_span_eq(struct kl_span a, struct kl_span b);
int            kl_span_cmp(struct kl_span a, struct kl_span b);       /* bytewise, then length */

/*
 * An arena: many small pieces, freed together. One owner, one thread at a time.
 * kl_arena_alloc returns NULL past `cap_bytes`: the caller says KL_ELIMIT in its own words.
 * Pieces are 16-byte aligned and NOT zeroed.
 */
struct kl_arena {
    size_t cap_bytes, used_bytes;                      /* used: what the system gave, all blocks */
    struct kl_arena_block *blocks;
};
void  kl_arena_init(struct kl_arena *a, size_t cap_bytes);
void  kl_arena_deinit(struct kl_arena *a);             /* frees everything; may be used anew */
void *kl_arena_alloc(struct kl_arena *a, size_t size_bytes);
void *kl_arena_copy(struct kl_arena *a, const void *bytes, size_t size_bytes);

/*
 * A budget: bytes that many arenas and buffers of one owner (a query, a request, a tenant) share.
 * Thread-safe (one relaxed atomic). take() fails past the cap and takes nothing.
 */
struct kl_budget { size_t cap_bytes; _Atomic size_t used_bytes, peak_bytes; };
bool kl_budget_take(struct kl_budget *b, size_t size_bytes);
void kl_budget_give(struct kl_budget *b, size_t size_bytes);
#endif
