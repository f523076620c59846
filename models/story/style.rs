//! The style and the script of every page.

use super::colours::{dark, light, print};

/// The colours and the layout of every page; also for those that a server makes.
pub(super) const STYLE: &str = concat!(
    ":root{color-scheme:light dark;--link:var(--quorum);",
    light!(),
    "}@media (prefers-color-scheme:dark){:root{",
    dark!(),
    "}}@media print{:root{",
    print!(),
    "}}\
*{box-sizing:border-box}body{font:15px/1.45 system-ui,sans-serif;margin:0;color:var(--ink);background:var(--ground)}\
a{color:var(--link)}header,footer{padding:8px 16px;background:var(--paper);border-bottom:1px solid var(--edge)}\
h1{font-size:19px;margin:0 0 4px}h2{font-size:16px;margin:8px 0 4px}h3{font-size:15px;margin:0 0 6px}\
h4{font-size:13px;margin:8px 0 2px;color:var(--soft);font-weight:600}header p{margin:3px 0;max-width:110em}\
.violated{color:var(--bad);font-weight:700}.lie{color:var(--bad)}.byzantine{color:var(--byz)}.safe{color:var(--safe)}\
.soft{color:var(--soft)}.quorum{color:var(--quorum)}dl{margin:4px 0;display:flex;flex-wrap:wrap;gap:2px 18px}\
dl div{display:flex;gap:6px}dt{font-weight:700}dd{margin:0;color:var(--soft)}\
main{display:grid;grid-template-columns:minmax(0,1fr) minmax(340px,460px);gap:12px;padding:12px;align-items:start}\
.box{background:var(--paper);border:1px solid var(--edge);border-radius:6px;padding:10px 12px}\
.diagram{overflow-x:auto;padding:0}.diagram svg{display:block;max-width:100%;height:auto}.diagram .step{cursor:pointer}\
.narrow{display:none}.side{min-width:0;position:sticky;top:8px;max-height:calc(100vh - 16px);overflow:auto}.live .side{position:static;max-height:none}\
.live .diagram{position:sticky;top:8px;max-height:calc(100vh - 16px);overflow:auto}.choices a{display:block;padding:3px 6px;\
text-decoration:none;border-top:1px solid var(--edge)}.choices a:hover{background:var(--ground)}.choices small{display:block}\
form.inline{display:inline-flex;gap:6px;align-items:center;margin-right:12px}select,input[type=search]{font:inherit;\
color:var(--ink);background:var(--paper);border:1px solid var(--edge);border-radius:4px;padding:3px 6px;max-width:100%}\
table{border-collapse:collapse;width:100%}td{padding:2px 8px 2px 0;vertical-align:top;border-top:1px solid var(--edge)}\
.jumps{display:flex;flex-wrap:wrap;gap:4px 8px;align-items:center;margin:4px 0}details>summary{cursor:pointer}\
header details{margin:3px 0}header details p{max-width:78em}kbd{font:inherit;border:1px solid var(--edge);border-radius:3px;padding:0 4px}\
.legend{display:flex;flex-wrap:wrap;gap:1px 14px;padding:4px 12px;font-size:12px;color:var(--soft);border-bottom:1px solid var(--edge)}\
.legend span{display:inline-flex;gap:6px;align-items:center}.legend svg{flex:none}\
ol.steps{list-style:none;margin:0;padding:0}ol.steps>li{padding:8px 0;border-top:1px solid var(--edge);scroll-margin-top:11em}ol.steps>li:focus{outline:none}\
.stepping ol.steps>li{display:none;border:0}.stepping ol.steps>li.chosen{display:block}\
.sides{display:grid;grid-template-columns:1fr 1fr;gap:12px}.sides>div{min-width:0;overflow-wrap:anywhere}\
.sides .same{color:var(--soft)}.first{border:2px solid var(--safe);border-radius:4px;padding:4px 6px;margin-top:6px}\
ul{margin:0;padding-left:18px}ul.plain{list-style:none;padding:0}del{color:var(--soft)}ins{text-decoration:none;font-weight:600}\
.ways{position:sticky;top:-10px;z-index:1;background:var(--paper);padding:6px 0}.ways .jumps{margin:0 0 6px}\
nav.steps{display:flex;gap:6px;align-items:center}nav.steps input[type=range]{flex:1;min-width:60px}\
button,.button{font:inherit;padding:3px 10px;border:1px solid var(--edge);border-radius:4px;background:var(--ground);\
color:var(--ink);cursor:pointer;text-decoration:none}\
.tally{display:block;width:100%;text-align:left;margin:3px 0;border:1px solid var(--edge);padding:4px 6px}\
.cells{display:flex;flex-wrap:wrap;gap:3px;margin-bottom:2px}.cell{border:1px solid var(--soft);border-radius:3px;padding:0 5px;\
min-width:28px;text-align:center;font-size:13px}.cell.has{background:var(--quorum);border-color:var(--quorum);color:var(--paper)}\
.cell.lacks{border-style:dashed;color:var(--soft)}.cell.not{text-decoration:line-through;color:var(--soft)}\
.complete{color:var(--quorum);font-weight:600}:focus-visible{outline:2px solid var(--link);outline-offset:2px}\
ol.why{margin:4px 0;padding-left:2.2em;overflow-wrap:anywhere}ol.why>li{break-inside:avoid}.then{overflow-wrap:anywhere;margin-top:8px}\
@media (max-width:820px){main{grid-template-columns:minmax(0,1fr);padding:8px}.side,.live .diagram{position:static;max-height:none}\
.wide{display:none}.narrow{display:block}.side{order:-1}}\
@media print{main{display:block}.side,.live .diagram{position:static;max-height:none;overflow:visible}.stepping ol.steps>li{display:block}\
nav,button.script{display:none}ol.steps>li{break-inside:avoid}.diagram{break-inside:auto}}"
);

/// Choosing a step: by its row in the diagram, the slider, the arrow keys and the address.
pub(super) const SCRIPT: &str = "\
(()=>{const items=[...document.querySelectorAll('ol.steps>li')];if(!items.length)return;\
const told=document.querySelector('.told'),slider=document.getElementById('slider'),all=document.getElementById('all');\
const drawn=[...document.querySelectorAll('.diagram .step')];let at=0;told.classList.add('stepping');\
function choose(n,move){at=Math.max(1,Math.min(items.length,n));\
document.querySelectorAll('.chosen').forEach(e=>e.classList.remove('chosen'));\
document.querySelectorAll('.lit').forEach(e=>e.classList.remove('lit'));\
document.querySelectorAll('[data-step=\"'+at+'\"]').forEach(e=>e.classList.add('chosen'));\
slider.value=at;slider.setAttribute('aria-valuetext',items[at-1].querySelector('h3').textContent);\
document.getElementById('back').disabled=at===1;document.getElementById('forward').disabled=at===items.length;\
if(move){history.replaceState(null,'','#step-'+at);const shown=drawn.find(e=>Number(e.dataset.step)===at&&e.getClientRects().length);\
if(shown&&!told.matches(':focus-within *'))shown.scrollIntoView({block:'nearest'});}}\
drawn.forEach(e=>e.addEventListener('click',()=>choose(Number(e.dataset.step),true)));\
document.getElementById('back').addEventListener('click',()=>choose(at-1,true));\
document.getElementById('forward').addEventListener('click',()=>choose(at+1,true));\
slider.addEventListener('input',()=>choose(Number(slider.value),true));\
all.addEventListener('click',()=>{const on=told.classList.toggle('stepping');all.textContent=on?'all steps':'one step';\
all.setAttribute('aria-pressed',String(!on));});\
document.querySelectorAll('.tally').forEach(e=>e.addEventListener('click',()=>{\
document.querySelectorAll('.lit').forEach(e=>e.classList.remove('lit'));\
(e.dataset.votes||'').split(' ').filter(Boolean).forEach(n=>\
document.querySelectorAll('.diagram [data-step=\"'+n+'\"]').forEach(e=>e.classList.add('lit')));}));\
const keys={};document.querySelectorAll('.jump').forEach(e=>{const steps=e.dataset.steps.split(' ').map(Number);\
keys[e.dataset.key]=()=>choose(steps[(steps.indexOf(at)+1)%steps.length],true);\
e.addEventListener('click',v=>{v.preventDefault();keys[e.dataset.key]();});});\
document.addEventListener('keydown',e=>{if(e.altKey||e.ctrlKey||e.metaKey||/INPUT|SELECT|TEXTAREA/.test(e.target.tagName))return;\
if(e.key==='ArrowLeft'||e.key==='k'){choose(at-1,true);e.preventDefault();}\
if(e.key==='ArrowRight'||e.key==='j'){choose(at+1,true);e.preventDefault();}\
if(keys[e.key]){keys[e.key]();e.preventDefault();}});\
const from=()=>Number((location.hash.match(/^#step-(\\d+)$/)||[])[1]||told.dataset.first||1);\
addEventListener('hashchange',()=>choose(from(),false));choose(from(),false);})();";
