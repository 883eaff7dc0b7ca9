#ifndef KOALEMOS_OVERRIDES_H
#define KOALEMOS_OVERRIDES_H
/* `koalemos overrides ...`: asks a doorman, or serve. Returns the exit status. */
int koalemos_overrides(int argc, char **argv, int first);
#endif
