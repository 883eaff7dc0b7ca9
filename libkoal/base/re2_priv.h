#ifndef KL_RE2_PRIV_H
#define KL_RE2_PRIV_H
/* RE2 as C can call it (regex_re2.cc). Compiled objects are immutable; any thread may match. */
#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif
struct kl_re2;
/* NULL when it does not compile; then `why` has the words. Anchored at both ends, `.` takes \n. */
struct kl_re2 *kl_re2_new(const char *pattern, size_t size, long memory_max, char *why,
                          size_t why_size);
/* How many instructions its program has. */
size_t kl_re2_instructions(const struct kl_re2 *re);
void kl_re2_free(struct kl_re2 *re);
bool kl_re2_match(const struct kl_re2 *re, const char *text, size_t size);
/* Fills begin[i], length[i] (begin -1: the group took no part); returns groups filled, 0: no match. */
size_t kl_re2_groups(const struct kl_re2 *re, const char *text, size_t size, long *begin,
                     long *length, size_t max);
int kl_re2_group_index(const struct kl_re2 *re, const char *name, size_t size);
#ifdef __cplusplus
}
#endif
#endif
