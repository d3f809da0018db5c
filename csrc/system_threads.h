/* The few things that pool.c needs of the system's threads. */
#ifndef BC_SYSTEM_THREADS_H
#define BC_SYSTEM_THREADS_H

#include <stddef.h>

/* BC_THREAD_MAIN(name, argument) { ... return 0; } is what a thread runs; bc_thread_start(thread, name, argument) has one run it,
 * or returns 0 where the system refuses. bc_watch_process has `in_child` called in the child of a fork, and `at_end` when the
 * process ends. */

#if defined(_WIN32)

#include <windows.h>

typedef HANDLE bc_thread;
typedef SRWLOCK bc_lock;
typedef CONDITION_VARIABLE bc_signal;
#define BC_LOCK_INIT SRWLOCK_INIT
#define BC_SIGNAL_INIT CONDITION_VARIABLE_INIT

static inline void bc_lock_take(bc_lock *lock) { AcquireSRWLockExclusive(lock); }
static inline void bc_lock_leave(bc_lock *lock) { ReleaseSRWLockExclusive(lock); }
static inline void bc_signal_one(bc_signal *signal) { WakeConditionVariable(signal); }
static inline void bc_signal_all(bc_signal *signal) { WakeAllConditionVariable(signal); }
static inline void bc_signal_wait(bc_signal *signal, bc_lock *lock) {
    SleepConditionVariableSRW(signal, lock, INFINITE, 0);
}

#define BC_THREAD_MAIN(name, argument) static DWORD WINAPI name(LPVOID argument)

static inline int bc_thread_start(bc_thread *thread, LPTHREAD_START_ROUTINE run, void *argument) {
    *thread = CreateThread(NULL, 0, run, argument, 0, NULL);
    return *thread != NULL;
}

static inline void bc_thread_join(bc_thread thread) {
    WaitForSingleObject(thread, INFINITE);
    CloseHandle(thread);
}

/* There is no fork, and a library that ends may not wait for threads: it is kept instead. */
static inline void bc_watch_process(void (*in_child)(void), void (*at_end)(void)) {
    (void)at_end;
    HMODULE self;
    GetModuleHandleExW(GET_MODULE_HANDLE_EX_FLAG_PIN | GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS,
                       (LPCWSTR)(void *)in_child, &self);
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
static inline void bc_signal_all(bc_signal *signal) { pthread_cond_broadcast(signal); }
static inline void bc_signal_wait(bc_signal *signal, bc_lock *lock) { pthread_cond_wait(signal, lock); }

#define BC_THREAD_MAIN(name, argument) static void *name(void *argument)

/* Signals are left to the threads of the program, but for those that are about what a thread itself does. */
static inline int bc_thread_start(bc_thread *thread, void *(*run)(void *argument), void *argument) {
    static const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT, SIGPROF};
    sigset_t others, before;
    sigfillset(&others);
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) sigdelset(&others, own[i]);
    pthread_sigmask(SIG_SETMASK, &others, &before);
    const int refused = pthread_create(thread, NULL, run, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
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
