#ifndef KOALEMOS_SERVE_H
#define KOALEMOS_SERVE_H
/* `koalemos serve`: argv[first..] are its flags. Returns the exit status. */
int koalemos_serve(int argc, char **argv, int first);
#endif
