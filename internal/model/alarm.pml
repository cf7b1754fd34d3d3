/*
 * The alarm of a direction: timeout.go, and the connection under it.
 *
 * Moments are small numbers: now goes from 1 to END. What never comes is later
 * than any of them. A call has the local variables limited (it has a timeout),
 * idling, armed, watched, out, restore and mine (the number of the call).
 */

#define PAST  0
#define NEVER 9
#ifndef END
#define END 2
#endif

byte now = 1;

/* the connection, in this direction */
byte deadline = NEVER;
bool connClosed;
bool silent;  /* nothing more comes */
bool reading; /* a call is inside */

bool alarmMu;
byte user = NEVER;
byte timer = NEVER; /* when the timer is to fire */
byte ringing;       /* how often it has, where ring has not run yet */
byte rings = NEVER;
byte alarmUntil = NEVER;
byte number;
bool underWay; /* active */
bool kicked;
bool stopped;

/* of the calls */
byte until[CALLS];
bool ctxDone; /* the context of the call WATCHED */
byte watch;   /* the number with which it is to call cancel, or 0 */

#define expired(c) (until[c] <= now || canceled(c))

/* The caller has the lock of the alarm. */
inline applyDeadline() {
#ifdef DEAF
	!reading;
#endif
	deadline = (kicked || stopped -> PAST :
		(!WAKES && alarmUntil < user -> alarmUntil : user))
}

inline kick() { kicked = true; applyDeadline() }

inline setTimer() {
	if
	:: alarmUntil == NEVER || rings <= alarmUntil
	:: else -> rings = alarmUntil; timer = alarmUntil
	fi
}

inline startClock(c) {
	if
	:: until[c] == NEVER && (limited || idling) -> until[c] = now + 1
	:: else
	fi
}

/* patience of call.go: until when the call may wait for its turn */
inline patience(c) {
	startClock(c);
	bound = (until[c] < user -> until[c] : user);
	if
	:: now >= bound -> got = TIMEUP; forgetPatience()
	:: else
	fi
}

inline forgetPatience() { bound = 0 }

inline startWait(c) {
	if
	:: armed
	:: atomic {
			!armed ->
			startClock(c);
			watched = c == WATCHED && !out;
			if
			:: WAKES && until[c] == NEVER && !watched
			:: else -> armed = true; arm(c)
			fi
		}
		if
		:: watched -> watch = number
		:: !watched
		fi
	fi
}

inline arm(c) {
	lock(alarmMu);
	number = c + 1;
	underWay = true;
	alarmUntil = until[c];
	if
	:: WAKES -> setTimer()
	:: !WAKES && (until[c] != NEVER || watched) -> applyDeadline()
	:: else
	fi;
	unlock(alarmMu)
}

/* begin and extend */
inline begin(c) {
	atomic {
		idling = false;
		until[c] = (limited -> now + 1 : NEVER);
		if
		:: armed ->
			lock(alarmMu);
			alarmUntil = until[c];
			if
			:: WAKES -> setTimer()
			:: else
			fi;
			if
			:: !WAKES || kicked -> kicked = false; applyDeadline()
			:: else
			fi;
			unlock(alarmMu)
		:: else
		fi
	}
}

inline settle() {
	if
	:: atomic { armed && watched -> watched = false; watch = 0 }
		atomic { armed = false; disarm() }
	:: atomic { armed && !watched -> armed = false; disarm() }
	:: !armed
	fi
}

inline disarm() {
	lock(alarmMu);
	restore = kicked || !WAKES && alarmUntil != NEVER;
	underWay = false;
	number = 0;
	kicked = false;
	alarmUntil = NEVER;
	if
	:: restore -> restore = false; applyDeadline()
	:: else
	fi;
	unlock(alarmMu)
}

/* The timer of package time, and ring, which it starts. */
proctype Timer() {
	do
	:: atomic { now >= timer -> timer = NEVER; ringing++ }
	:: atomic {
			ringing > 0 && !alarmMu ->
			ringing--;
			lock(alarmMu);
			rings = NEVER;
			if
			:: !underWay || alarmUntil == NEVER
			:: underWay && now < alarmUntil -> setTimer()
			:: underWay && now >= alarmUntil -> kick()
			fi;
			unlock(alarmMu)
		}
	od
}

/* The end of a context, and cancel, which context.AfterFunc starts. */
proctype Cancel() {
	byte it;
	ctxDone = true;
	atomic { watch != 0 -> it = watch; watch = 0 }
	atomic {
		lock(alarmMu);
		if
		:: underWay && number == it -> kick()
		:: else
		fi;
		unlock(alarmMu)
	}
}

inline stop() {
	atomic {
		lock(alarmMu);
		stopped = true;
		applyDeadline();
		unlock(alarmMu)
	}
}

inline restart() {
	atomic {
		lock(alarmMu);
		stopped = false;
		applyDeadline();
		unlock(alarmMu)
	}
}

proctype Clock() {
	do
	:: now < END -> now++
	od
}
