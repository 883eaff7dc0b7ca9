#ifndef QR_SCORE_H
#define QR_SCORE_H
/*
 * How well a text fits what is searched for, as Prometheus 3.14's search API scores it; pure.
 *
 *   subsequence  1 where the text begins with the term; else the term's runes must occur in order:
 *                runs of neighbours count by their square, gaps against it; 0 is no match
 *   jarowinkler  where the term occurs, 1 at the start down to 0.1 at the end; else the Jaro-Winkler
 *                similarity, where a threshold is set
 *
 * Of several terms the best counts. Letters are folded by a small table of our own: Latin, Greek,
 * Cyrillic, Armenian.
 */
#include "libkoal/base/buf.h"
#include "libkoal/base/err.h"

enum { QR_TERMS_MAX = 32, QR_TERM_RUNES_MAX = 4096 };
enum qr_fuzz { QR_FUZZ_SUBSEQUENCE, QR_FUZZ_JAROWINKLER };

struct qr_term { uint32_t *runes; size_t count; };
struct qr_search {
    struct qr_term terms[QR_TERMS_MAX];
    size_t term_count;                                 /* none: everything fits, with 1 */
    enum qr_fuzz alg;
    double threshold;                                  /* 0..1 */
    bool fold;                                         /* not case sensitive */
};
/* An empty term is left out. KL_ELIMIT past QR_TERMS_MAX or QR_TERM_RUNES_MAX. */
enum kl_code qr_search_term(struct qr_search *s, struct kl_span term, struct kl_err *err);
void         qr_search_deinit(struct qr_search *s);
/* Memory that scoring needs, kept from text to text; {0}, one thread. */
struct qr_score_room { uint32_t *runes; bool *marks; size_t runes_room, marks_room; };
void   qr_score_room_deinit(struct qr_score_room *room);
/* 0..1, or -1 where it does not fit. `alg`, `threshold` and `fold` must be set before any term. */
double qr_score(const struct qr_search *s, struct kl_span text, struct qr_score_room *room);
/* How many steps that may take at most, about: each term may begin anywhere in the text, and each time be looked for to
 * its end. */
uint64_t qr_score_steps(const struct qr_search *s, struct kl_span text);
#endif
