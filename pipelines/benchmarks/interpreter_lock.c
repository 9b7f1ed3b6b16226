/* Counts how often threads of a Python process give the interpreter lock away, and the CPU time they spend between taking and giving it.
   Preloaded, it stands before the functions of libpython; a thread counts from the first time it gives the lock away. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <time.h>

static atomic_long given, held;
static __thread long taken = -1;

static long cpu_nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec * 1000000000L + now.tv_nsec;
}

void *PyEval_SaveThread(void)
{
    static void *(*next)(void);
    if (!next)
        next = dlsym(RTLD_NEXT, "PyEval_SaveThread");
    if (taken >= 0)
        atomic_fetch_add(&held, cpu_nanoseconds() - taken);
    atomic_fetch_add(&given, 1);
    taken = -1;
    return next();
}

void PyEval_RestoreThread(void *state)
{
    static void (*next)(void *);
    if (!next)
        next = dlsym(RTLD_NEXT, "PyEval_RestoreThread");
    next(state);
    taken = cpu_nanoseconds();
}

long interpreter_lock_given(void) { return given; }
long interpreter_lock_held(void) { return held; }
