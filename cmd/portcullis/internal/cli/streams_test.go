package cli

import "testing"

func TestWantsColour(t *testing.T) {
	for _, c := range []struct {
		environment map[string]string
		want        bool
	}{
		{nil, true},
		{map[string]string{"TERM": "xterm"}, true},
		{map[string]string{"TERM": "dumb"}, false},
		{map[string]string{"NO_COLOR": "1"}, false},
		{map[string]string{"NO_COLOR": ""}, true},
	} {
		if got := wantsColour(func(name string) string { return c.environment[name] }); got != c.want {
			t.Errorf("%v: %v, want %v", c.environment, got, c.want)
		}
	}
}
