package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/bufsock/bufsock/bench"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// The charts of bars that are not named by a workload.
const (
	pingPongChart = "ping-pong"
	idleChart     = "idle"
)

// A panel is a part of a chart: a bar for each name.
type panel struct {
	label  string
	names  []string
	values map[string]float64
}

// panels has one for each size.
func (s *section) panels() (panels []panel) {
	for _, r := range s.results {
		panels = append(panels, timesPanel(fmt.Sprintf("ns per %s of %s", s.Unit, s.sizeText(r.Size)), r))
	}
	return panels
}

// timesPanel has the median of each side.
func timesPanel(label string, r *bench.Result) panel {
	p := panel{label: label, values: map[string]float64{}}
	for _, side := range r.Workload.Sides {
		if t := r.Times[side.Name]; t != nil {
			p.names = append(p.names, side.Name)
			p.values[side.Name] = bench.Median(t)
		}
	}
	return p
}

// pingPongPanels has one for each kind of connection.
func (r *report) pingPongPanels() (panels []panel) {
	for _, s := range r.table {
		if kind, ok := strings.CutPrefix(s.Name, pingPongChart+"-"); ok {
			panels = append(panels, timesPanel("ns, "+kind, s.results[0]))
		}
	}
	return panels
}

// idlePanels has one for each kind of connection.
func (r *report) idlePanels() (panels []panel) {
	for _, t := range r.idle {
		p := panel{label: "bytes, " + string(t.kind), values: map[string]float64{}}
		for _, c := range t.costs {
			p.names = append(p.names, c.Side)
			p.values[c.Side] = c.Heap + c.Stack
		}
		panels = append(panels, p)
	}
	return panels
}

// maxBars is how many times as long as the first bar another may be, and be
// shown.
const maxBars = 8

// drawBars draws the panels beside each other, with the names before the first.
func drawBars(panels []panel) ([]byte, error) {
	first := panels[0]
	names := slices.DeleteFunc(slices.Clone(first.names), func(name string) bool {
		return first.values[name] >= maxBars*first.values[first.names[0]]
	})
	slices.Reverse(names) // bars are drawn from the bottom
	var plots []*plot.Plot
	for _, panel := range panels {
		p, err := panel.draw(names)
		if err != nil {
			return nil, err
		}
		plots = append(plots, p)
	}
	plots[0].NominalY(names...)
	plots[0].Y.Width, plots[0].Y.Tick.Width = 0, 0
	var namesWidth vg.Length
	for _, name := range names {
		namesWidth = max(namesWidth, plots[0].Y.Tick.Label.Width(name))
	}
	return encode(vg.Length(len(names))*barRow+barMargin, func(c draw.Canvas) {
		width := (chartWidth - namesWidth) / vg.Length(len(plots))
		for i, p := range plots {
			left := namesWidth + vg.Length(i)*width
			if i == 0 {
				left = 0
			}
			p.Draw(draw.Crop(c, left+4, namesWidth+vg.Length(i+1)*width-chartWidth-24, 2, -10))
		}
	})
}

// draw has a bar for each name, with its value.
func (panel *panel) draw(names []string) (*plot.Plot, error) {
	p := newPlot()
	p.X.Label.Text = panel.label
	var labels plotter.XYLabels
	for i, name := range names {
		value := panel.values[name]
		bar, err := plotter.NewBarChart(plotter.Values{value}, 12)
		if err != nil {
			return nil, err
		}
		bar.Horizontal, bar.XMin = true, float64(i)
		bar.Color, bar.LineStyle.Width = barColors[strings.HasPrefix(name, "bufsock")], 0
		p.Add(bar)
		labels.XYs = append(labels.XYs, plotter.XY{X: value, Y: float64(i)})
		labels.Labels = append(labels.Labels, digits(value))
	}
	text, err := plotter.NewLabels(labels)
	if err != nil {
		return nil, err
	}
	for i := range text.TextStyle {
		text.TextStyle[i].Color = inkColor
		text.TextStyle[i].Font = chartFont
		text.TextStyle[i].YAlign = draw.YCenter
	}
	text.Offset.X = 4
	p.Add(text)
	p.X.Min = 0
	p.HideAxes()
	return p, nil
}
