package seed

import (
	"slices"
	"testing"
)

func TestOf(t *testing.T) {
	for _, c := range []struct {
		text string
		want uint64
	}{{"", Fixed}, {"7", 7}, {"18446744073709551615", 1<<64 - 1}} {
		t.Setenv(Variable, c.text)
		if got := Of(t); got != c.want {
			t.Errorf("%s=%s: seed %d, want %d", Variable, c.text, got, c.want)
		}
	}
	t.Setenv(Variable, "random")
	if a, b := Of(t), Of(t); a == b {
		t.Errorf("random: twice the seed %d", a)
	}
	for _, text := range []string{"x", "-1", "18446744073709551616"} {
		if s, err := Parse(text); err == nil {
			t.Errorf("%s=%s: seed %d, want an error", Variable, text, s)
		}
	}
}

func TestRandRepeats(t *testing.T) {
	t.Setenv(Variable, "7")
	if a, b := Rand(t).Uint64(), Rand(t).Uint64(); a != b || a == From(8).Uint64() {
		t.Errorf("seed 7 gives %d and %d, want the same twice, and another with seed 8", a, b)
	}
}

func TestEach(t *testing.T) {
	mended := []Mended{{42, "an example"}, {43, "another"}}
	for _, c := range []struct {
		env  string
		want []uint64
	}{{"", []uint64{Fixed, 42, 43}}, {"42", []uint64{42}}} {
		t.Setenv(Variable, c.env)
		var got []uint64
		Each(t, mended, func(_ *testing.T, s uint64) { got = append(got, s) })
		if !slices.Equal(got, c.want) {
			t.Errorf("%s=%s: seeds %v, want %v", Variable, c.env, got, c.want)
		}
	}
}

func TestRounds(t *testing.T) {
	for _, c := range []struct {
		env  string
		want int
	}{{"", 5}, {"1", 500}} {
		t.Setenv(soakVariable, c.env)
		if got := Rounds(5, 500); got != c.want {
			t.Errorf("%s=%s: %d rounds, want %d", soakVariable, c.env, got, c.want)
		}
	}
}
