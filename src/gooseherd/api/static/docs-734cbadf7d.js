var e=matchMedia("(prefers-color-scheme: dark)"),t=()=>{document.querySelector("rapi-doc")?.setAttribute("theme",e.matches?"dark":"light")};e.addEventListener("change",t);t();
