#!/usr/bin/env bash
#
# Guess: in tmux's control mode everything between %begin and %end is escaped, as it
# is in %output, so the first line with %end ends an answer; and an empty line does
# nothing.
# Seen: only %output is escaped. An answer may hold a line "%end 1 2 3", and its end
# is the line that repeats the three numbers of its %begin. Before any command comes
# an answer that nobody asked for. An empty line ends the client: what is behind it
# is not answered.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
apt-get -qq -o APT::Sandbox::User=root download tmux=3.3a-3 libevent-core-2.1-7=2.1.12-stable-8+deb12u1 \
	libutempter0=1.2.1-3 || exit 2
for deb in *.deb; do dpkg -x "$deb" .; done
export LD_LIBRARY_PATH=$dir/usr/lib/x86_64-linux-gnu TMUX_TMPDIR=$dir
unset TMUX

commands() {
	sleep 1 # let the shell in it begin
	for command in 'display-message -p "%%end 1 2 3"' 'nosuch' 'display-message -p a\\b' '' 'display-message -p behind'; do
		echo "$command"
		sleep 0.5
	done
}
commands | timeout 20 usr/bin/tmux -L finding -f /dev/null -C new-session "printf 'a\\\\\\\\b'; sleep 10" >said || true
usr/bin/tmux -L finding kill-server || true
# The numbers are a time, a counter and flags; begin and end have the same.
python3 - >got <<'END'
import re
names = {}
for line in open("said"):
    line = re.sub(r"(?<=^%)(begin|end|error) (\d{6,} \d+ \d)", lambda m: m[1] + " " + names.setdefault(m[2], "#%d" % len(names)), line)
    if re.match(r"%(?!window|session)|[^%]", line):
        print(line, end="")
END
cat >want <<'END'
%begin #0
%end #0
%output %0 a\134\134b
%begin #1
%end 1 2 3
%end #1
%begin #2
parse error: unknown command: nosuch
%error #2
%begin #3
a\b
%end #3
%exit
END
echo "tmux 3.3a-3, control mode: answers, and the empty line. Seen:"
cat got
diff want got || { echo "this has changed"; exit 1; }
