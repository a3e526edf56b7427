// Package seed is for tests that draw their cases at random: it decides from which seed and how many, in one place, so
// that each of them can be repeated, and run for longer.
//
//   - By default, as in `make test` and in CI, a test draws from the seed Fixed: whether it passes must not be a matter of
//     luck for somebody who changed something else. Seeds that have failed before are tried as well: see Each.
//   - PORTCULLIS_SEED=random draws a new seed each time. `make soak` and `make explore` set it.
//   - PORTCULLIS_SEED=N repeats what a test has printed.
//   - PORTCULLIS_SOAK=1 asks for larger counts: see Rounds.
//
// It imports the standard library only, so that tests of every package may use it.
package seed

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

// Fixed is the seed that is drawn from unless the environment names another one.
const Fixed uint64 = 1

// Variable names the environment variable that a seed is read from.
const Variable = "PORTCULLIS_SEED"

const soakVariable = "PORTCULLIS_SOAK"

// Of returns the seed of a test and prints it in the form that repeats it.
func Of(tb testing.TB) uint64 {
	tb.Helper()
	s, err := Parse(os.Getenv(Variable))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Logf("%s=%d", Variable, s)
	return s
}

// Parse reads a seed: a number, "random", or "" for the fixed one.
func Parse(text string) (uint64, error) {
	switch text {
	case "":
		return Fixed, nil
	case "random":
		return rand.Uint64(), nil
	}
	s, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: want \"random\" or a number below 2^64: %w", Variable, err)
	}
	return s, nil
}

// Rand returns the source of a test's random numbers: From(Of(tb)).
func Rand(tb testing.TB) *rand.Rand {
	tb.Helper()
	return From(Of(tb))
}

// From returns the source that a seed stands for.
func From(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

// Mended is a seed with which a test failed once, and what was wrong then.
type Mended struct {
	Seed uint64
	Was  string
}

// Each runs a test as subtests: with the seed of this run, and with those that failed before. With PORTCULLIS_SEED=N it
// runs that seed only.
func Each(t *testing.T, mended []Mended, test func(t *testing.T, seed uint64)) {
	t.Helper()
	s := Of(t)
	t.Run(fmt.Sprint("seed ", s), func(t *testing.T) { test(t, s) })
	if v := os.Getenv(Variable); v != "" && v != "random" {
		return
	}
	for _, m := range mended {
		t.Run(fmt.Sprint("seed ", m.Seed), func(t *testing.T) {
			t.Logf("failed before: %s", m.Was)
			test(t, m.Seed)
		})
	}
}

// Soaking reports whether the tests are to take their time.
func Soaking() bool { return os.Getenv(soakVariable) != "" }

// Rounds returns how many cases a test draws: few, or many when soaking.
func Rounds(few, many int) int {
	if Soaking() {
		return many
	}
	return few
}
