// The one file that knows RE2.
#include "libkoal/base/re2_priv.h"

#include <re2/re2.h>

#include <algorithm>
#include <cstdio>
#include <new>
#include <string>
#include <vector>

struct kl_re2 {
    re2::RE2 re;
    kl_re2(const re2::StringPiece &p, const re2::RE2::Options &o) : re(p, o) {}
};

struct kl_re2 *kl_re2_new(const char *pattern, size_t size, long memory_max, char *why,
                          size_t why_size)
{
    re2::RE2::Options o;
    o.set_log_errors(false);
    o.set_dot_nl(true);
    o.set_max_mem(memory_max);
    kl_re2 *re = new (std::nothrow) kl_re2(re2::StringPiece(pattern, size), o);
    if (re == nullptr) {
        std::snprintf(why, why_size, "out of memory");
        return nullptr;
    }
    if (!re->re.ok()) {
        std::snprintf(why, why_size, "%s", re->re.error().c_str());
        delete re;
        return nullptr;
    }
    return re;
}

size_t kl_re2_instructions(const struct kl_re2 *re) { return static_cast<size_t>(re->re.ProgramSize()); }

void kl_re2_free(struct kl_re2 *re) { delete re; }

bool kl_re2_match(const struct kl_re2 *re, const char *text, size_t size)
{
    return re->re.Match(re2::StringPiece(text, size), 0, size, re2::RE2::ANCHOR_BOTH, nullptr, 0);
}

size_t kl_re2_groups(const struct kl_re2 *re, const char *text, size_t size, long *begin,
                     long *length, size_t max)
{
    size_t n = std::min(max, static_cast<size_t>(re->re.NumberOfCapturingGroups()) + 1);
    std::vector<re2::StringPiece> groups(n);

    if (!re->re.Match(re2::StringPiece(text, size), 0, size, re2::RE2::ANCHOR_BOTH, groups.data(),
                      static_cast<int>(n)))
        return 0;
    for (size_t i = 0; i < n; i++) {
        begin[i] = groups[i].data() == nullptr ? -1 : groups[i].data() - text;
        length[i] = static_cast<long>(groups[i].size());
    }
    return n;
}

int kl_re2_group_index(const struct kl_re2 *re, const char *name, size_t size)
{
    const auto &names = re->re.NamedCapturingGroups();
    auto it = names.find(std::string(name, size));
    return it == names.end() ? -1 : it->second;
}
