/* The few things that pool.c needs of the system's threads. */
#ifndef BC_SYSTEM_THREADS_H
#define BC_SYSTEM_THREADS_H

#include <stddef.h>

/* bc_thread_start(thread, work, number) runs work(number) on a new thread; 0 where the system refuses one. bc_watch_process
 * has `in_child` called in the child of a fork, and `at_end` when the process ends. */
typedef struct bc_thread_start_args {
    void (*work)(size_t number);
    size_t number;
} bc_thread_start_args;

#if defined(_WIN32)

#include <stdlib.h>
#include <windows.h>

typedef HANDLE bc_thread;
typedef SRWLOCK bc_lock;
typedef CONDITION_VARIABLE bc_signal;
#define BC_LOCK_INIT SRWLOCK_INIT
#define BC_SIGNAL_INIT CONDITION_VARIABLE_INIT

static inline void bc_lock_take(bc_lock *lock) { AcquireSRWLockExclusive(lock); }
static inline void bc_lock_leave(bc_lock *lock) { ReleaseSRWLockExclusive(lock); }
static inline void bc_signal_one(bc_signal *signal) { WakeConditionVariable(signal); }
static inline void bc_signal_wait(bc_signal *signal, bc_lock *lock) {
    SleepConditionVariableSRW(signal, lock, INFINITE, 0);
}

static DWORD WINAPI bc_thread_main(LPVOID started) {
    const bc_thread_start_args args = *(bc_thread_start_args *)started;
    free(started);
    args.work(args.number);
    return 0;
}

static inline int bc_thread_start(bc_thread *thread, void (*work)(size_t number), size_t number) {
    bc_thread_start_args *args = malloc(sizeof *args);
    if (!args) return 0;
    *args = (bc_thread_start_args){work, number};
    *thread = CreateThread(NULL, 0, bc_thread_main, args, 0, NULL);
    if (!*thread) free(args);
    return *thread != NULL;
}

static inline void bc_thread_join(bc_thread thread) {
    WaitForSingleObject(thread, INFINITE);
    CloseHandle(thread);
}

/* There is no fork, and a library that ends may not wait for threads: it is kept instead. */
static inline void bc_watch_process(void (*in_child)(void), void (*at_end)(void)) {
    (void)in_child;
    (void)at_end;
    HMODULE self;
    GetModuleHandleExW(GET_MODULE_HANDLE_EX_FLAG_PIN | GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS,
                       (LPCWSTR)(void *)bc_thread_main, &self);
}

#else

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

typedef pthread_t bc_thread;
typedef pthread_mutex_t bc_lock;
typedef pthread_cond_t bc_signal;
#define BC_LOCK_INIT PTHREAD_MUTEX_INITIALIZER
#define BC_SIGNAL_INIT PTHREAD_COND_INITIALIZER

static inline void bc_lock_take(bc_lock *lock) { pthread_mutex_lock(lock); }
static inline void bc_lock_leave(bc_lock *lock) { pthread_mutex_unlock(lock); }
static inline void bc_signal_one(bc_signal *signal) { pthread_cond_signal(signal); }
static inline void bc_signal_wait(bc_signal *signal, bc_lock *lock) { pthread_cond_wait(signal, lock); }

static void *bc_thread_main(void *started) {
    const bc_thread_start_args args = *(bc_thread_start_args *)started;
    free(started);
    args.work(args.number);
    return NULL;
}

/* Signals are left to the threads of the program. */
static inline int bc_thread_start(bc_thread *thread, void (*work)(size_t number), size_t number) {
    bc_thread_start_args *args = malloc(sizeof *args);
    if (!args) return 0;
    *args = (bc_thread_start_args){work, number};
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int refused = pthread_create(thread, NULL, bc_thread_main, args);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (refused) free(args);
    return !refused;
}

static inline void bc_thread_join(bc_thread thread) { pthread_join(thread, NULL); }

/* `at_end` also runs where the library is unloaded, whose code the threads run. */
static inline void bc_watch_process(void (*in_child)(void), void (*at_end)(void)) {
    pthread_atfork(NULL, NULL, in_child);
    atexit(at_end);
}

#endif

#endif
