package main

import (
	"bytes"
	"fmt"
	"image/color"
	"math"
	"os"
	"path/filepath"

	"github.com/bufsock/bufsock/bench"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// The colours stand out from white and from black, since the background is
// that of the page.
var (
	inkColor  = color.RGBA{0x76, 0x7c, 0x84, 0xff}
	gridColor = color.NRGBA{0x76, 0x7c, 0x84, 0x50}
	barColors = map[bool]color.RGBA{true: {0x2f, 0x81, 0xf7, 0xff}, false: {0x8b, 0x94, 0x9e, 0xff}} // bufsock or not

	lineColors = []color.RGBA{
		{0x2f, 0x81, 0xf7, 0xff}, // blue
		{0x89, 0x57, 0xe5, 0xff}, // purple
		{0x1a, 0x8f, 0x88, 0xff}, // teal
		{0xb8, 0x5c, 0x9e, 0xff}, // pink
		{0xc4, 0x72, 0x1a, 0xff}, // orange
		{0xd1, 0x4b, 0x4b, 0xff}, // red
	}
	glyphs = []draw.GlyphDrawer{
		draw.CircleGlyph{}, draw.SquareGlyph{}, draw.PyramidGlyph{},
		draw.PlusGlyph{}, draw.RingGlyph{}, draw.BoxGlyph{},
	}
)

// Lengths in points.
const (
	chartWidth   = 550
	chartHeight  = 245
	legendRow    = 15
	legendColumn = 270
	barRow       = 24
	barMargin    = 30
)

var chartFont = font.Font{Typeface: "Liberation", Variant: "Sans", Size: 10}

// A curve says what a chart shows of a workload: value, of a time per unit.
type curve struct {
	label string
	log   bool
	value func(size int, ns float64) float64
}

func nanoseconds(_ int, ns float64) float64 { return ns }

var curves = map[string]curve{
	"message-size": {"GB per second", false, func(size int, ns float64) float64 { return float64(size) / ns }},
	"late-delimiter": {"ns per read", false, func(size int, ns float64) float64 {
		return ns / float64(size)
	}},
	"buffered-messages": {"ns per line", true, nanoseconds},
	"delimiters":        {"ns per line", true, nanoseconds},
	"connections":       {"thousand lines per second", false, func(_ int, ns float64) float64 { return 1e6 / ns }},
	"contention":        {"ns per line", true, nanoseconds},
}

// writeCharts writes the charts to the directory.
func (r *report) writeCharts(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	charts := map[string]func() ([]byte, error){
		r.table[0].Name: func() ([]byte, error) { return drawBars(r.table[0].panels()) },
		pingPongChart:   func() ([]byte, error) { return drawBars(r.pingPongPanels()) },
		idleChart:       func() ([]byte, error) { return drawBars(r.idlePanels()) },
	}
	for _, s := range r.growth {
		charts[s.Name] = func() ([]byte, error) { return drawCurves(s) }
	}
	for name, draw := range charts {
		svg, err := draw()
		if err != nil {
			return fmt.Errorf("chart of %s: %w", name, err)
		}
		if err := os.WriteFile(filepath.Join(dir, name+".svg"), svg, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// newPlot returns a plot without a background, in the colours of a page.
func newPlot() *plot.Plot {
	p := plot.New()
	p.BackgroundColor = nil
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.Color, axis.Label.TextStyle.Color = inkColor, inkColor
		axis.Tick.Color, axis.Tick.Label.Color = inkColor, inkColor
		axis.Label.TextStyle.Font, axis.Tick.Label.Font = chartFont, chartFont
		axis.Color = inkColor
	}
	return p
}

// encode renders what is drawn on a canvas of the height.
func encode(height vg.Length, paint func(draw.Canvas)) ([]byte, error) {
	canvas := vgsvg.NewWith(vgsvg.UseWH(chartWidth, height))
	paint(draw.New(canvas))
	var buf bytes.Buffer
	if _, err := canvas.WriteTo(&buf); err != nil {
		return nil, err
	}
	// What stands for the font where it is missing should be as wide.
	return bytes.ReplaceAll(buf.Bytes(), []byte("font-family:Liberation Sans;"),
		[]byte("font-family:Liberation Sans,Arial,Helvetica,sans-serif;")), nil
}

// drawCurves draws a line for each side, over the sizes of the workload.
func drawCurves(s *section) ([]byte, error) {
	p := newPlot()
	show := curves[s.Name]
	p.X.Label.Text, p.Y.Label.Text = s.Scale, show.label
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, s.ticks()
	grid := plotter.NewGrid()
	grid.Horizontal.Color, grid.Vertical.Color = gridColor, nil
	p.Add(grid)
	p.Y.Tick.Marker = plot.TickerFunc(linearTicks)
	if show.log {
		p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.TickerFunc(logTicks)
	}
	var legend []plot.Legend
	for i, side := range s.Sides {
		points := s.points(side.Name, show)
		line, scatter, err := plotter.NewLinePoints(points)
		if err != nil {
			return nil, err
		}
		bars, err := plotter.NewYErrorBars(points)
		if err != nil {
			return nil, err
		}
		line.Width, line.Color = 1.6, lineColors[i]
		scatter.Shape, scatter.Radius, scatter.Color = glyphs[i], 3, lineColors[i]
		bars.Color, bars.Width = lineColors[i], 0.6
		p.Add(bars, line, scatter)
		entry := plot.NewLegend()
		entry.Left, entry.Top = true, true
		entry.TextStyle.Color, entry.TextStyle.Font = inkColor, chartFont
		entry.Add(side.Name, line, scatter)
		legend = append(legend, entry)
	}
	if !show.log {
		p.Y.Min = 0
	}
	rows := vg.Length((len(legend) + 1) / 2)
	return encode(chartHeight+rows*legendRow, func(c draw.Canvas) {
		for i := range legend {
			left, down := vg.Length(i%2)*legendColumn, vg.Length(i/2)*legendRow
			legend[i].Draw(draw.Crop(c, 30+left, 0, 0, -4-down))
		}
		p.Draw(draw.Crop(c, 4, -24, 2, -10-rows*legendRow))
	})
}

// points are the medians of a side, with their spread.
type points struct {
	plotter.XYs
	plotter.YErrors
}

func (s *section) points(side string, show curve) points {
	var p points
	for _, r := range s.results {
		t := r.Times[side]
		if t == nil {
			continue
		}
		values := make([]float64, len(t))
		for i, ns := range t {
			values[i] = show.value(r.Size, ns)
		}
		median := bench.Median(values)
		low, high := bench.Quantile(values, 0.1), bench.Quantile(values, 0.9)
		p.XYs = append(p.XYs, plotter.XY{X: float64(r.Size), Y: median})
		p.YErrors = append(p.YErrors, struct{ Low, High float64 }{median - low, high - median})
	}
	return p
}

// ticks are the sizes of the workload.
func (s *section) ticks() plot.ConstantTicks {
	var ticks plot.ConstantTicks
	for _, size := range s.Sizes {
		ticks = append(ticks, plot.Tick{Value: float64(size), Label: s.sizeText(size)})
	}
	return ticks
}

// linearTicks are at round numbers, about five.
func linearTicks(low, high float64) []plot.Tick {
	ten := math.Pow(10, math.Floor(math.Log10(high-low)))
	step := ten
	for _, part := range []float64{2, 5} {
		if (high-low)/step < 4 {
			step = ten / part
		}
	}
	var ticks []plot.Tick
	for i := math.Ceil(low / step); i*step <= high; i++ {
		ticks = append(ticks, plot.Tick{Value: i * step, Label: fmt.Sprintf("%.6g", i*step)})
	}
	return ticks
}

// logTicks are at the powers of ten and, if there is room, at what is twice
// and five times as much.
func logTicks(low, high float64) []plot.Tick {
	factors := []float64{1, 2, 5}
	if high/low > 1000 {
		factors = factors[:1]
	}
	var ticks []plot.Tick
	for ten := math.Pow(10, math.Floor(math.Log10(low))); ten <= high; ten *= 10 {
		for _, factor := range factors {
			if v := ten * factor; v >= low && v <= high {
				ticks = append(ticks, plot.Tick{Value: v, Label: fmt.Sprintf("%.6g", v)})
			}
		}
	}
	return ticks
}
