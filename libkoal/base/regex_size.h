#ifndef KL_REGEX_SIZE_H
#define KL_REGEX_SIZE_H
/* What a compiled regular expression holds on to, for whoever takes many from one asker. */
#include "libkoal/base/match.h"

/* About: its program, which a few bytes of pattern may make long (`\pL{60}`). Not what matching may take besides. */
size_t kl_regex_bytes(const struct kl_regex *re);
#endif
